/* The video is the clock where it can play, our own clock where it cannot. Frame i is shown from i / fps on. */
function makePlayer(video, changed) {
  const player = { frame: 0, frames: 1, fps: 30, playing: false, speed: 1 };
  const works = () => !video.error && video.readyState >= 1; /* 1, not 2: it falls back to 1 while seeking */
  let at = 0, heard = -Infinity; /* frame of our own clock; when the browser last said which frame it presents */

  function show(frame) {
    at = Math.max(0, Math.min(player.frames - 1e-6, frame));
    player.frame = Math.floor(at);
    changed();
  }

  player.seek = (frame) => {
    show(frame);
    if (works()) video.currentTime = (player.frame + 0.5) / player.fps;
  };

  player.play = (playing) => {
    player.playing = playing;
    video.playbackRate = player.speed;
    if (playing) video.play().catch(() => {});
    else {
      video.pause();
      player.seek(player.frame);
    }
    changed();
  };

  player.hasten = (speed) => {
    player.speed = video.playbackRate = speed;
  };

  player.tick = (now, seconds) => {
    if (!player.playing) return;
    if (!works()) show((at + seconds * player.fps * player.speed) % player.frames);
    else if (!video.seeking && now - heard > 250) show(video.currentTime * player.fps + 1e-3);
  };

  function presented(now, { mediaTime }) {
    if (player.playing && !video.seeking) {
      heard = performance.now();
      show(Math.round(mediaTime * player.fps));
    }
    video.requestVideoFrameCallback(presented);
  }
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(presented);
  /* not the video's own loop: Chromium also goes round when it is paused in its last frame */
  video.addEventListener("ended", () => {
    if (player.playing) video.play().catch(() => {});
  });
  video.addEventListener("loadeddata", () => player.seek(player.frame));
  return player;
}

/* Fingers and mouse on a canvas: one turns, two or the shift key move and zoom. */
function watchHands(canvas, { turn, zoom, move }) {
  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const dx = event.clientX - last.clientX, dy = event.clientY - last.clientY;
    if (fingers.size === 2) {
      const [other] = [...fingers.values()].filter((finger) => finger.pointerId !== event.pointerId);
      const gap = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
      zoom(gap(event) / gap(last));
      move(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) move(dx, dy);
    else turn(dx * 0.008, dy * 0.008);
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== canvas) return; /* a page scrolls past, a chosen canvas zooms */
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.002));
  }, { passive: false });
}

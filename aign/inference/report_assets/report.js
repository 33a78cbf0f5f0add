/* The 3D viewer: plain canvas, no library. Joints are pelvis-centred, +x right, +y down, +z away from the camera. */
(() => {
  const root = document.querySelector(".viewer");
  if (!root) return;
  const { bones, clips } = JSON.parse(document.getElementById("clips").textContent);
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const canvas = find("canvas"), video = find("video"), pen = canvas.getContext("2d");
  const MISSING = -32768, SIDES = ["left", "right", "centre"];
  const VIEWS = { corner: [-0.6, 0.22], camera: [0, 0], side: [Math.PI / 2, 0], above: [0, Math.PI / 2] };

  const state = { clip: null, yaw: 0, pitch: 0, zoom: 1, dirty: true };
  const player = makePlayer(video, () => { state.dirty = true; });
  [state.yaw, state.pitch] = VIEWS.corner;

  /* base64 of little-endian int16 millimetres, [t, 17, 3] */
  function decode(text) {
    if (text === null) return null;
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Int16Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true));
  }

  function extent(clip) {
    let reach = 0.3, top = 0, bottom = 0.3;
    for (const joints of [clip.predicted, clip.reference]) {
      if (!joints) continue;
      for (let i = 0; i < joints.length; i += 3) {
        if (joints[i] === MISSING) continue;
        const [x, y, z] = [joints[i] / 1000, joints[i + 1] / 1000, joints[i + 2] / 1000];
        reach = Math.max(reach, Math.hypot(x, z));
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
      }
    }
    const middle = (top + bottom) / 2;
    return { floor: bottom, middle, radius: Math.hypot(reach, (bottom - top) / 2) };
  }

  function joint(joints, frame, j) {
    const at = (frame * 17 + j) * 3;
    return joints[at] === MISSING ? null : [joints[at] / 1000, joints[at + 1] / 1000, joints[at + 2] / 1000];
  }

  let before = 0;
  function tick(now) {
    const seconds = Math.min((now - before) / 1000, 0.1);
    before = now;
    player.tick(performance.now(), seconds);
    if (find("turn").checked) {
      state.yaw -= seconds * 0.5;
      state.dirty = true;
    }
    if (state.dirty) draw();
    requestAnimationFrame(tick);
  }

  /* ---- drawing ---- */

  function theme() {
    const style = getComputedStyle(root);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  function mixed(colour, other, share) {
    const part = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    return `rgb(${[0, 1, 2].map((i) => Math.round(part(colour, i) * (1 - share) + part(other, i) * share))})`;
  }

  function lens(centreX, width, height) {
    const { middle, radius } = state.clip.extent;
    const [sy, cy, sp, cp] = [Math.sin(state.yaw), Math.cos(state.yaw), Math.sin(state.pitch), Math.cos(state.pitch)];
    const distance = 4.2 * radius;
    const scale = (0.43 * Math.min(width, height) * state.zoom) / radius;
    return ([x, y, z]) => {
      const u = x * cy + z * sy, w = z * cy - x * sy, v = y - middle;
      const depth = v * sp + w * cp, shrink = distance / (distance + depth);
      return { x: centreX + scale * shrink * u, y: 0.47 * height + scale * shrink * (v * cp - w * sp), depth, size: scale * shrink };
    };
  }

  function line(a, b, colour, width) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(a.x, a.y);
    pen.lineTo(b.x, b.y);
    pen.stroke();
  }

  function drawFloor(project, colour, { left, right, bottom }) {
    const { floor } = state.clip.extent, half = 1;
    for (let i = -half; i <= half; i += 0.5) {
      line(project([i, floor, -half]), project([i, floor, half]), colour("grid"), 1);
      line(project([-half, floor, i]), project([half, floor, i]), colour("grid"), 1);
    }
    const at = project([0, floor, -half]), x = Math.max(left + 34, Math.min(right - 34, at.x));
    pen.fillStyle = colour("quiet");
    pen.textAlign = "center";
    pen.fillText("camera", x, Math.min(at.y + 14, bottom - 10));
  }

  /* Far limbs first; the grey reference always behind the lifted body, which is what one wants to see. */
  function drawBody(project, { joints, grey }, colour) {
    const { frame } = player, strokes = [];
    for (const [child, parent, side] of bones) {
      const ends = [joint(joints, frame, child), joint(joints, frame, parent)];
      if (ends.includes(null)) continue;
      const [a, b] = ends.map(project);
      strokes.push({ a, b, paint: colour(grey ? "reference" : SIDES[side]), depth: (a.depth + b.depth) / 2 });
    }
    strokes.sort((p, q) => q.depth - p.depth);
    for (const { a, b, paint, depth } of strokes) {
      const width = (grey ? 0.05 : 0.034) * a.size;
      const far = Math.max(0, Math.min(0.45, (grey ? 0.3 : 0.15) + (0.25 * depth) / state.clip.extent.radius));
      if (!grey) line(a, b, colour("stage"), width + 3);
      line(a, b, mixed(paint, colour("stage"), far), width);
    }
  }

  function draw() {
    state.dirty = false;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.lineCap = pen.lineJoin = "round";
    pen.font = "13px system-ui, sans-serif";
    const colour = theme(), { clip } = state;
    const bodies = [];
    if (clip.reference && find("reference").checked) bodies.push({ joints: clip.reference, grey: true, name: "reference" });
    if (find("lifted").checked) bodies.push({ joints: clip.predicted, grey: false, name: "lifted" });
    const apart = bodies.length === 2 && find("apart").checked;
    const scenes = apart ? [[bodies[1]], [bodies[0]]] : [bodies];
    scenes.forEach((scene, i) => {
      const share = width / scenes.length;
      const project = lens(share * (i + 0.5), share, height);
      pen.save();
      pen.beginPath();
      pen.rect(share * i, 0, share, height);
      pen.clip();
      drawFloor(project, colour, { left: share * i, right: share * (i + 1), bottom: height });
      for (const body of scene) drawBody(project, body, colour);
      if (apart) {
        pen.fillStyle = colour("quiet");
        pen.textAlign = "center";
        pen.fillText(scene[0].name, share * (i + 0.5), height - 16);
      }
      pen.restore();
    });
    find("scrub").value = player.frame;
    find("time").textContent = `frame ${player.frame + 1} / ${clip.frames}`;
    find("play").textContent = player.playing ? "Pause" : "Play";
  }

  /* ---- hands ---- */

  function choose(number) {
    const given = clips[number];
    state.clip = { ...given, predicted: decode(given.predicted), reference: decode(given.reference) };
    state.clip.extent = extent(state.clip);
    if (video.getAttribute("src") !== state.clip.video) {
      video.width = state.clip.size[0];
      video.height = state.clip.size[1];
      video.src = state.clip.video;
    }
    for (const part of ["reference", "apart"]) find(part).closest("label").hidden = !state.clip.reference;
    find("scrub").max = state.clip.frames - 1;
    find("caption").textContent = state.clip.caption;
    Object.assign(player, { frames: given.frames, fps: given.fps });
    player.seek(0);
    player.play(player.playing);
  }

  function look(name) {
    [state.yaw, state.pitch] = VIEWS[name];
    state.zoom = 1;
    find("turn").checked = false;
    state.dirty = true;
  }

  function orbit(dx, dy) {
    state.yaw -= dx;
    state.pitch = Math.max(-0.3, Math.min(Math.PI / 2, state.pitch + dy));
    state.dirty = true;
  }

  const zoom = (factor) => {
    state.zoom = Math.max(0.5, Math.min(4, state.zoom * factor));
    state.dirty = true;
  };

  function turn(dx, dy) {
    find("hint").hidden = true;
    orbit(dx, dy);
  }

  watchHands(canvas, { turn, zoom, move() {} });
  canvas.addEventListener("dblclick", () => look("corner"));
  canvas.addEventListener("keydown", (event) => {
    const keys = {
      ArrowLeft: () => orbit(-0.1, 0), ArrowRight: () => orbit(0.1, 0), ArrowUp: () => orbit(0, -0.1), ArrowDown: () => orbit(0, 0.1),
      "+": () => zoom(1.15), "-": () => zoom(1 / 1.15), " ": () => player.play(!player.playing), Escape: () => canvas.blur(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  find("play").addEventListener("click", () => player.play(!player.playing));
  find("scrub").addEventListener("input", (event) => {
    if (player.playing) player.play(false);
    player.seek(Number(event.target.value));
  });
  find("speed").addEventListener("change", (event) => player.hasten(Number(event.target.value)));
  find("view").addEventListener("change", (event) => look(event.target.value));
  find("clip").addEventListener("change", (event) => choose(Number(event.target.value)));
  for (const part of ["lifted", "reference", "apart", "turn"]) find(part).addEventListener("change", () => { state.dirty = true; });
  new ResizeObserver(() => { state.dirty = true; }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { state.dirty = true; });

  video.removeAttribute("controls");
  for (const bar of root.querySelectorAll(".bar, .space")) bar.hidden = false;
  choose(0);
  player.play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(tick);
  root.dataset.ready = "true";
})();

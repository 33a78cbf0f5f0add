/* The page of a capture: the video and the body at the same frame. */

const given = JSON.parse(document.getElementById("capture").textContent);
const find = (name) => document.querySelector(`.capture [data-part="${name}"]`);
const bodies = given.bodies.map(readBody);
const people = given.people.map(() => null); /* read when they are first chosen */
const videos = new Map();
const VIEWS = { corner: [0.6, 0.2], front: [0, 0.1], side: [Math.PI / 2, 0.1], back: [Math.PI, 0.1], above: [0, 1.5] };
const RAMP = [[0, [0.19, 0.42, 0.80]], [0.35, [0.36, 0.74, 0.72]], [0.6, [0.97, 0.84, 0.32]], [1, [0.84, 0.17, 0.16]]];
const FAR = 4.3; /* metres; a body with its arms up fits */
const GREY = [0.55, 0.57, 0.6];

const canvas = find("canvas"), video = find("video");
const state = { person: null, mode: "mesh", yaw: 0, pitch: 0, distance: FAR, shift: [0, 0, 0], dirty: true, colours: null, cursor: null, shown: null };
const scene = makeScene(canvas), sketch = scene ? null : makeSketch(canvas);
const player = makePlayer(video, () => { state.dirty = true; });

function theme() {
  const style = getComputedStyle(document.querySelector(".capture"));
  const rgb = (name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
  };
  const names = ["stage", "grid", "body", "accent", "left", "right", "centre", "quiet"];
  return { ...Object.fromEntries(names.map((name) => [name, rgb(name)])), shade: Number(style.getPropertyValue("--shade")) };
}

function ramp(share) {
  const at = Math.max(0, Math.min(1, share)), next = Math.max(1, RAMP.findIndex(([stop]) => stop >= at));
  const [from, a] = RAMP[next - 1], [to, b] = RAMP[next], by = (at - from) / (to - from);
  return a.map((x, i) => x + by * (b[i] - x));
}

const poseAt = (frame) => {
  const pose = frame - state.person.first;
  return pose >= 0 && pose < state.person.poses ? pose : null;
};

/* Vertices of the body in a frame of the video, metres: what is drawn. */
function verticesAt(frame) {
  return skinned(state.person, jointsAt(state.person, poseAt(frame)));
}

function tintsOf(pose, count) {
  const { person, colours } = state, seen = person.state[pose] & 1, out = new Float32Array(3 * count);
  const heat = state.mode === "heat" ? heatOf(person, pose) : null;
  const plain = seen ? colours.body : colours.body.map((x, i) => 0.35 * x + 0.65 * GREY[i]);
  for (let v = 0; v < count; v++) out.set(!heat ? plain : Number.isNaN(heat[v]) ? GREY : ramp(heat[v] / person.heat_top), 3 * v);
  return out;
}

function limbsAt({ turns, places }) {
  const joint = (j) => [...places.subarray(3 * j, 3 * j + 3)], { colours, person } = state;
  const limbs = person.body.parents.flatMap((p, j) => (p < 0 ? [] : [{ a: joint(p), b: joint(j), tint: colours[given.sides[j]] }]));
  const crown = joint(given.head).map((x, i) => x + 0.2 * turns[9 * given.head + 3 * i + 1]);
  return [...limbs, { a: joint(given.head), b: crown, tint: colours.centre }];
}

/* Where the pelvis went, as a band on the floor, and discs under the feet that stand. */
function marksAt(pose, places) {
  const { person, colours } = state, marks = makePile(), at = (i) => [person.pelvis[3 * i], 0.005, person.pelvis[3 * i + 2]];
  for (let last = 0, i = 1; i < person.poses; i++) {
    const a = at(last), b = at(i), dx = b[0] - a[0], dz = b[2] - a[2], long = Math.hypot(dx, dz);
    if (long < 0.03) continue;
    const side = [(-dz / long) * 0.007, 0, (dx / long) * 0.007], [p, q, r, s] = [[a, 1], [a, -1], [b, 1], [b, -1]].map(([c, sign]) => c.map((x, k) => x + sign * side[k]));
    const tint = i <= pose ? colours.accent : colours.quiet;
    marks.add(tint, p, r, q);
    marks.add(tint, q, r, s);
    last = i;
  }
  given.feet.forEach((j, k) => {
    if (places && person.state[pose] & (2 << k)) addDisc(marks, colours[k ? "right" : "left"], places.subarray(3 * j, 3 * j + 3), 0.11);
  });
  return marks;
}

function draw() {
  state.dirty = false;
  state.colours ??= theme();
  const ratio = window.devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect(), { person, colours, mode } = state;
  if (width && height && (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio))) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pose = poseAt(player.frame), near = pose ?? (player.frame < person.first ? 0 : person.poses - 1);
  const joints = pose === null ? null : jointsAt(person, pose), bones = makePile(), limbs = joints ? limbsAt(joints) : [];
  const centre = [person.pelvis[3 * near], Math.max(0.5 * person.pelvis[3 * near + 1] + 0.45, 0.5), person.pelvis[3 * near + 2]];
  const look = { yaw: state.yaw, pitch: state.pitch, distance: state.distance, target: centre.map((x, i) => x + state.shift[i]) };
  if (sketch) sketch({ look, colours, limbs });
  else {
    let surface = null;
    if (joints) {
      const places = skinned(person, joints);
      surface = { places, normals: normalsOf(places, person.body.faces), tints: tintsOf(pose, places.length / 3), faces: person.body.faces };
    }
    if (mode === "skeleton") for (const { a, b, tint } of limbs) addBone(bones, tint, a, b);
    scene({ look, colours, surface, marks: marksAt(pose ?? near, joints?.places), bones, ghost: mode === "skeleton" });
  }
  find("absent").hidden = joints !== null;
  find("filled").hidden = joints === null || Boolean(person.state[pose] & 1);
  find("scrub").value = player.frame;
  find("time").textContent = `frame ${player.frame + 1} / ${person.frames}`;
  find("play").textContent = player.playing ? "Pause" : "Play";
  state.cursor(player.frame);
}

/* ---- hands ---- */

const touch = () => { state.dirty = true; };
const seek = (frame) => { if (player.playing) player.play(false); player.seek(frame); };

function look(name) {
  const q = state.person.quats, facing = new Float32Array(9);
  rotation(q, 0, facing, 0);
  const [yaw, pitch] = VIEWS[name];
  Object.assign(state, { yaw: yaw + Math.atan2(facing[2], facing[8]), pitch, distance: FAR, shift: [0, 0, 0] });
  find("turn").checked = false;
  touch();
}

function turn(dx, dy) {
  state.yaw -= dx;
  state.pitch = Math.max(-0.2, Math.min(1.55, state.pitch + dy));
  find("hint").hidden = true;
  touch();
}

function zoom(factor) {
  state.distance = Math.max(0.8, Math.min(25, state.distance / factor));
  touch();
}

function move(dx, dy) {
  const { right, up } = lookFrom({ ...state, target: [0, 0, 0] }, 1), by = (0.62 * state.distance) / canvas.clientHeight;
  state.shift = state.shift.map((x, i) => x + by * (dy * up[i] - dx * right[i]));
  find("hint").hidden = true;
  touch();
}

/* The text is decoded once and then dropped: a video's text is a third larger than the video. */
function videoUrl(number) {
  if (!videos.has(number)) {
    const text = document.getElementById(`video-${number}`);
    videos.set(number, URL.createObjectURL(new Blob([decoded(text.textContent, Uint8Array)], { type: "video/mp4" })));
    text.remove();
  }
  return videos.get(number);
}

function choose(number) {
  people[number] ??= readPerson(given.people[number], bodies);
  const person = (state.person = people[number]), frame = player.frame;
  Object.assign(player, { frames: person.frames, fps: person.fps });
  if (state.shown !== person.video) {
    [video.width, video.height] = person.size;
    video.src = videoUrl(person.video);
    state.shown = person.video;
  }
  find("scrub").max = person.frames - 1;
  find("stage").classList.toggle("upright", person.size[1] > person.size[0]);
  const hot = find("modes").querySelector('[value="heat"]');
  hot.closest("label").hidden = !person.heat || !scene;
  find("modes").querySelector('[value="mesh"]').closest("label").hidden = !scene;
  if (state.mode === "heat" && !person.heat) find("modes").querySelector('[value="mesh"]').click();
  find("heat-top").textContent = person.heat ? `${short(person.heat_top)} px` : "";
  state.cursor = makeStrips(find("strips"), person, seek);
  look("corner");
  player.seek(Math.min(frame, person.frames - 1));
  if (player.playing) player.play(true);
}

function setMode(mode) {
  state.mode = mode;
  find("legend").hidden = mode !== "heat";
  touch();
}

watchHands(canvas, { turn, zoom, move });
canvas.addEventListener("dblclick", () => look("corner"));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select, input[type=radio]")) return;
  if (event.key === " " && event.target.matches("button, a, input[type=checkbox], summary")) return; /* it presses them */
  const leap = (by) => (event.shiftKey ? turn(by > 0 ? 0.1 : -0.1, 0) : seek(player.frame + by));
  const tilt = (by) => event.shiftKey && turn(0, by);
  const keys = {
    ArrowLeft: () => leap(-1), ArrowRight: () => leap(1), ArrowUp: () => tilt(-0.1), ArrowDown: () => tilt(0.1),
    Home: () => seek(0), End: () => seek(player.frames - 1),
    "+": () => zoom(1.15), "-": () => zoom(1 / 1.15), " ": () => player.play(!player.playing), Escape: () => document.activeElement.blur(),
  };
  if (!keys[event.key] || keys[event.key]() === false) return;
  event.preventDefault();
});
find("play").addEventListener("click", () => player.play(!player.playing));
find("scrub").addEventListener("input", (event) => seek(Number(event.target.value)));
find("speed").addEventListener("change", (event) => player.hasten(Number(event.target.value)));
find("view").addEventListener("change", (event) => look(event.target.value));
find("person").addEventListener("change", (event) => choose(Number(event.target.value)));
find("modes").addEventListener("change", (event) => setMode(event.target.value));
new ResizeObserver(touch).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { state.colours = null; touch(); });

let before = 0;
function tick(now) {
  const seconds = Math.min((now - before) / 1000, 0.1);
  before = now;
  player.tick(performance.now(), seconds);
  if (find("turn").checked) { state.yaw -= 0.5 * seconds; touch(); }
  if (state.dirty) draw();
  requestAnimationFrame(tick);
}

find("bar").style.background = `linear-gradient(90deg, ${RAMP.map(([stop, rgb]) => `rgb(${rgb.map((x) => Math.round(255 * x))}) ${100 * stop}%`)})`;
for (const part of document.querySelectorAll(".capture [data-scripted]")) part.hidden = false;
if (matchMedia("(pointer: coarse)").matches) find("hint").textContent = "drag to turn, two fingers to zoom and move";
if (!scene) setMode("skeleton");
choose(0);
player.play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
requestAnimationFrame(tick);
document.querySelector(".capture").dataset.ready = "true";

/* One row a curve, in the order of the video's frames; a click or a drag on it is a place in time. */

const SVG = "http://www.w3.org/2000/svg";

function made(tag, { text, ...attributes } = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

const short = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2));
const withUnit = (x, unit) => (x === null || x === undefined ? "\u2013" : unit ? `${short(x)} ${unit}` : short(x));

/* Runs of frames for which something holds, as [first, one after the last]. */
function runs(count, holds) {
  const out = [];
  for (let i = 0; i < count; i++) {
    if (!holds(i)) continue;
    if (out.length && out.at(-1)[1] === i) out.at(-1)[1] = i + 1;
    else out.push([i, i + 1]);
  }
  return out;
}

function blocks(person, count, name, top, height, holds) {
  return runs(count, holds).map(([from, to]) => made("svg:rect", { class: name, x: person.first + from, y: top, width: to - from, height }));
}

function curve(person, { values }) {
  const known = values.filter((x) => x !== null), low = Math.min(0, ...known), high = Math.max(...known, low + 1e-9);
  const y = (x) => (96 - (92 * (x - low)) / (high - low)).toFixed(1), x = (i) => person.first + i + 0.5;
  let line = "", area = "";
  for (const [from, to] of runs(values.length, (i) => values[i] !== null)) {
    const points = Array.from({ length: to - from }, (_, k) => `${x(from + k)} ${y(values[from + k])}`).join("L");
    line += `M${points}${to - from === 1 ? "h.01" : ""}`;
    area += `M${x(from)} 96L${points}L${x(to - 1)} 96Z`;
  }
  return [made("svg:path", { class: "area", d: area }), made("svg:path", { class: "line", d: line })];
}

function rowsOf(person) {
  const rows = person.strips.map((strip) => {
    const known = strip.values.map((value, i) => [value, i]).filter(([value]) => value !== null).sort(([a], [b]) => a - b);
    const worst = known.length ? known.at(strip.worst === "low" ? 0 : -1) : null;
    return {
      ...strip, worst, median: known.length ? known[known.length >> 1][0] : null,
      shapes: curve(person, strip), say: (pose) => withUnit(strip.values[pose], strip.unit),
    };
  });
  const stands = (bit) => (i) => person.state[i] & bit;
  const feet = [
    ...blocks(person, person.poses, "left", 12, 34, stands(2)),
    ...blocks(person, person.poses, "right", 54, 34, stands(4)),
  ];
  const words = ["none", "left", "right", "both"];
  rows.push({ name: "feet on the floor", note: "left above, right below", worst: null, median: null, shapes: feet, say: (pose) => words[person.state[pose] >> 1] });
  return rows;
}

/* Fills the element; gives back what moves the cursor to a frame. */
function makeStrips(root, person, seek) {
  const rows = rowsOf(person), total = person.frames, cursors = [];
  const absent = (i) => i < person.first || i >= person.first + person.poses || !(person.state[i - person.first] & 1);
  root.replaceChildren(...rows.map((row) => {
    const gone = runs(total, absent).map(([from, to]) => made("svg:rect", { class: "gone", x: from, y: 0, width: to - from, height: 100 }));
    const chart = made("svg:svg", { viewBox: `0 0 ${total} 100`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...gone, ...row.shapes);
    const cursor = made("i", { class: "cursor" }), now = made("output"), plot = made("div", { class: "plot" }, chart, cursor);
    const go = (event) => {
      const { left, width } = plot.getBoundingClientRect();
      seek(Math.max(0, Math.min(total - 1, Math.floor((total * (event.clientX - left)) / width))));
    };
    plot.addEventListener("pointerdown", (event) => { plot.setPointerCapture(event.pointerId); go(event); });
    plot.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(event); });
    cursors.push({ cursor, now, row });
    const label = made("div", { class: "label" }, made("b", { text: row.name }), made("small", { text: row.note }));
    const facts = made("div", { class: "facts" }, now);
    if (row.worst) {
      const jump = made("button", { type: "button", text: `worst ${short(row.worst[0])}`, title: `frame ${person.first + row.worst[1] + 1}` });
      jump.addEventListener("click", () => seek(person.first + row.worst[1]));
      facts.append(made("small", {}, `median ${short(row.median)}, `, jump));
    }
    return made("div", { class: "row" }, label, plot, facts);
  }));
  const seconds = total / person.fps, marks = [0, 0.25, 0.5, 0.75, 1].map((share) => made("span", { text: `${(share * seconds).toFixed(seconds < 10 ? 1 : 0)} s` }));
  root.append(made("div", { class: "row times", "aria-hidden": "true" }, made("div"), made("div", { class: "scale" }, ...marks), made("div")));
  return (frame) => {
    const pose = frame - person.first, here = pose >= 0 && pose < person.poses;
    for (const { cursor, now, row } of cursors) {
      cursor.style.left = `${(100 * (frame + 0.5)) / total}%`;
      now.textContent = here ? row.say(pose) : "\u2013";
    }
  };
}

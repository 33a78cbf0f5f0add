/* Motions as they travel in the page, and bodies posed by them. Metres, y up, the floor at y = 0. Matrices row-major. */

/* base64 of little-endian numbers, which is how browsers' machines keep them */
function decoded(text, Type) {
  const padding = (text.match(/=*$/)[0]).length, all = new Uint8Array((text.length / 4) * 3 - padding);
  for (let at = 0, to = 0; at < text.length; at += 1 << 20) {
    const raw = atob(text.slice(at, at + (1 << 20)));
    for (let i = 0; i < raw.length; i++) all[to++] = raw.charCodeAt(i);
  }
  return new Type(all.buffer);
}

function readBody(given) {
  const weights = Float32Array.from(decoded(given.weights, Uint16Array), (w) => w / 65535);
  return { faces: decoded(given.faces, Uint32Array), joints: decoded(given.joints, Uint8Array), weights, parents: given.parents };
}

function readPerson(given, bodies) {
  const heat = given.heat && Float32Array.from(decoded(given.heat, Uint16Array), (h) => (h === 65535 ? NaN : h / 10));
  return {
    ...given, heat, body: bodies[given.body], rest: Float32Array.from(given.rest.flat()),
    vertices: Float32Array.from(decoded(given.vertices, Int16Array), (x) => x / 10000),
    quats: decoded(given.quats, Int16Array), pelvis: decoded(given.pelvis, Float32Array),
  };
}

function rotation(q, at, out, to) {
  const n = Math.hypot(q[at], q[at + 1], q[at + 2], q[at + 3]), w = q[at] / n, x = q[at + 1] / n, y = q[at + 2] / n, z = q[at + 3] / n;
  out[to] = 1 - 2 * (y * y + z * z); out[to + 1] = 2 * (x * y - w * z); out[to + 2] = 2 * (x * z + w * y);
  out[to + 3] = 2 * (x * y + w * z); out[to + 4] = 1 - 2 * (x * x + z * z); out[to + 5] = 2 * (y * z - w * x);
  out[to + 6] = 2 * (x * z - w * y); out[to + 7] = 2 * (y * z + w * x); out[to + 8] = 1 - 2 * (x * x + y * y);
}

/* Rotations in the world and positions of the 24 joints: parents come before their children. */
function jointsAt(person, pose) {
  const { rest, body: { parents } } = person, n = parents.length;
  const turns = new Float32Array(9 * n), places = new Float32Array(3 * n), local = new Float32Array(9);
  for (let j = 0; j < n; j++) {
    const p = parents[j];
    rotation(person.quats, 4 * (pose * n + j), local, 0);
    if (p < 0) {
      turns.set(local, 0);
      places.set(person.pelvis.subarray(3 * pose, 3 * pose + 3), 0);
      continue;
    }
    for (let r = 0; r < 3; r++) {
      let place = places[3 * p + r];
      for (let c = 0; c < 3; c++) {
        place += turns[9 * p + 3 * r + c] * (rest[3 * j + c] - rest[3 * p + c]);
        turns[9 * j + 3 * r + c] = turns[9 * p + 3 * r] * local[c] + turns[9 * p + 3 * r + 1] * local[3 + c] + turns[9 * p + 3 * r + 2] * local[6 + c];
      }
      places[3 * j + r] = place;
    }
  }
  return { turns, places };
}

/* Linear blend skinning with four joints a vertex. */
function skinned(person, { turns, places }) {
  const { vertices, rest, body } = person, n = body.parents.length, shifts = new Float32Array(3 * n), out = new Float32Array(vertices.length);
  for (let j = 0; j < n; j++) for (let r = 0; r < 3; r++) {
    const row = 9 * j + 3 * r;
    shifts[3 * j + r] = places[3 * j + r] - turns[row] * rest[3 * j] - turns[row + 1] * rest[3 * j + 1] - turns[row + 2] * rest[3 * j + 2];
  }
  for (let v = 0, at = 0; v < vertices.length; v += 3, at += 4) {
    const x = vertices[v], y = vertices[v + 1], z = vertices[v + 2];
    for (let k = at; k < at + 4; k++) {
      const w = body.weights[k], j = body.joints[k], m = 9 * j;
      if (!w) continue;
      out[v] += w * (turns[m] * x + turns[m + 1] * y + turns[m + 2] * z + shifts[3 * j]);
      out[v + 1] += w * (turns[m + 3] * x + turns[m + 4] * y + turns[m + 5] * z + shifts[3 * j + 1]);
      out[v + 2] += w * (turns[m + 6] * x + turns[m + 7] * y + turns[m + 8] * z + shifts[3 * j + 2]);
    }
  }
  return out;
}

/* Of vertices, those of the faces round them weighted by area. */
function normalsOf(points, faces) {
  const out = new Float32Array(points.length);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const i of [a, b, c]) { out[i] += nx; out[i + 1] += ny; out[i + 2] += nz; }
  }
  return out;
}

/* Error of each vertex in pixels, through its joints' weights; NaN where most of them are not known. */
function heatOf(person, pose) {
  const { body, heat } = person, n = body.parents.length, out = new Float32Array(body.weights.length / 4);
  for (let v = 0; v < out.length; v++) {
    let sum = 0, known = 0;
    for (let k = 4 * v; k < 4 * v + 4; k++) {
      const value = heat[pose * n + body.joints[k]];
      if (Number.isNaN(value)) continue;
      sum += body.weights[k] * value;
      known += body.weights[k];
    }
    out[v] = known > 0.5 ? sum / known : NaN;
  }
  return out;
}

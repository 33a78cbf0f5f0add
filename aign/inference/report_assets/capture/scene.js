/* The 3D view: the body, its shadow, where it walked, the floor at y = 0; and a plain drawing where WebGL is missing. */

const LIT = {
  vertex: `#version 300 es
    in vec3 place, normal, tint;
    uniform mat4 camera, model;
    out vec3 where, facing, colour;
    void main() {
      vec4 world = model * vec4(place, 1.0);
      where = world.xyz; facing = normal; colour = tint;
      gl_Position = camera * world;
    }`,
  fragment: `#version 300 es
    precision highp float;
    in vec3 where, facing, colour;
    uniform vec3 eye;
    uniform float lit, dim, alpha;
    out vec4 painted;
    void main() {
      vec3 n = normalize(facing), toEye = normalize(eye - where), key = normalize(vec3(0.45, 0.85, 0.35));
      float sky = 0.5 + 0.5 * n.y, sun = max(dot(n, key), 0.0), front = max(dot(n, toEye), 0.0);
      float shine = pow(max(dot(n, normalize(key + toEye)), 0.0), 36.0), rim = pow(1.0 - front, 3.0);
      vec3 shaded = colour * (0.34 + 0.22 * sky + 0.34 * sun + 0.22 * front) + vec3(0.10 * shine + 0.10 * rim);
      painted = vec4(dim * mix(colour, shaded, lit), alpha);
    }`,
};
const FLOOR = {
  vertex: `#version 300 es
    in vec2 corner;
    uniform mat4 camera;
    uniform vec2 middle;
    uniform float reach;
    out vec2 where;
    void main() {
      where = middle + reach * corner;
      gl_Position = camera * vec4(where.x, 0.0, where.y, 1.0);
    }`,
  fragment: `#version 300 es
    precision highp float;
    in vec2 where;
    uniform vec2 middle;
    uniform float reach;
    uniform vec3 grid;
    out vec4 painted;
    float lines(float step) {
      vec2 width = max(fwidth(where / step), 1e-5), near = abs(fract(where / step - 0.5) - 0.5) / width;
      return (1.0 - min(min(near.x, near.y), 1.0)) * (1.0 - smoothstep(0.2, 0.6, max(width.x, width.y)));
    }
    void main() {
      float fade = 1.0 - smoothstep(0.25 * reach, reach, distance(where, middle));
      painted = vec4(grid, fade * max(lines(1.0), 0.45 * lines(0.25)));
    }`,
};
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const SHADOW = [1, 0, 0, 0, -0.4, 0, -0.3, 0, 0, 0, 1, 0, 0, 0.004, 0, 1]; /* along the light onto the floor */

/* Where the camera stands and the matrix (by columns) from the world to the canvas. */
function lookFrom({ yaw, pitch, distance, target }, aspect) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  const right = [cy, 0, -sy], up = [-sy * sp, cp, -cy * sp], back = [sy * cp, sp, cy * cp];
  const eye = target.map((t, i) => t + distance * back[i]);
  const lens = 1 / Math.tan(0.3), near = 0.05, far = 200, squeeze = (far + near) / (near - far);
  const width = lens / Math.max(aspect, 0.75), height = (lens / Math.max(aspect, 0.75)) * aspect;
  const row = (axis, by) => [...axis.map((x) => x * by), -by * axis.reduce((sum, x, i) => sum + x * eye[i], 0)];
  const [x, y, z, w] = [row(right, width), row(up, height), row(back, squeeze), row(back, -1)];
  z[3] += (2 * far * near) / (near - far);
  return { eye, right, up, matrix: [0, 1, 2, 3].flatMap((i) => [x[i], y[i], z[i], w[i]]) };
}

/* Flat triangles with a colour each. */
function makePile() {
  const places = [], normals = [], tints = [];
  return {
    places, normals, tints,
    add(tint, a, b, c) {
      const u = b.map((x, i) => x - a[i]), v = c.map((x, i) => x - a[i]);
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      places.push(...a, ...b, ...c);
      normals.push(...n, ...n, ...n);
      tints.push(...tint, ...tint, ...tint);
    },
  };
}

/* A bone as two pyramids, the thick end at the parent. */
function addBone(pile, tint, a, b) {
  const axis = b.map((x, i) => x - a[i]), long = Math.hypot(...axis) || 1e-6, d = axis.map((x) => x / long);
  const other = Math.abs(d[1]) < 0.9 ? [0, 1, 0] : [1, 0, 0], radius = 0.012 + 0.07 * long;
  const cross = (p, q) => [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
  const side = cross(d, other), size = Math.hypot(...side), u = side.map((x) => x / size), v = cross(d, u);
  const waist = [0, 1, 2, 3, 4, 5].map((k) => {
    const [s, c] = [Math.sin((k * Math.PI) / 3), Math.cos((k * Math.PI) / 3)];
    return a.map((x, i) => x + 0.2 * axis[i] + radius * (c * u[i] + s * v[i]));
  });
  waist.forEach((p, k) => {
    const q = waist[(k + 1) % 6];
    pile.add(tint, a, q, p);
    pile.add(tint, b, p, q);
  });
}

function addDisc(pile, tint, [x, , z], radius) {
  const rim = (k) => [x + radius * Math.sin((k * Math.PI) / 12), 0.006, z + radius * Math.cos((k * Math.PI) / 12)];
  for (let k = 0; k < 24; k++) pile.add(tint, [x, 0.006, z], rim(k), rim(k + 1));
}

function makeScene(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: true, stencil: true, alpha: false });
  if (!gl) return null;

  function program({ vertex, fragment }) {
    const linked = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(linked, shader);
    }
    gl.linkProgram(linked);
    return linked;
  }

  function mesh(linked, names) {
    const vao = gl.createVertexArray(), index = gl.createBuffer();
    gl.bindVertexArray(vao);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, index);
    const buffers = names.map(([name, size]) => {
      const buffer = gl.createBuffer(), slot = gl.getAttribLocation(linked, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(slot);
      gl.vertexAttribPointer(slot, size, gl.FLOAT, false, 0, 0);
      return buffer;
    });
    return { vao, buffers, count: 0, faces: null };
  }

  function fill(mesh, arrays, faces) {
    gl.bindVertexArray(mesh.vao);
    arrays.forEach((array, i) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, mesh.buffers[i]);
      gl.bufferData(gl.ARRAY_BUFFER, array instanceof Float32Array ? array : new Float32Array(array), gl.DYNAMIC_DRAW);
    });
    if (faces && mesh.faces !== faces) gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
    mesh.faces = faces;
    mesh.count = faces ? faces.length : arrays[0].length / 3;
  }

  let parts;
  function build() {
    const lit = program(LIT), floor = program(FLOOR), three = [["place", 3], ["normal", 3], ["tint", 3]];
    parts = { lit, floor, surface: mesh(lit, three), pile: mesh(lit, three), square: mesh(floor, [["corner", 2]]) };
    fill(parts.square, [[-1, -1, 1, -1, -1, 1, 1, 1]]);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
  }
  build();
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", build);

  function put(mesh, { lit = 1, dim = 1, alpha = 1, model = IDENTITY, write = true } = {}) {
    if (!mesh.count) return;
    const at = (name) => gl.getUniformLocation(parts.lit, name);
    gl.uniform1f(at("lit"), lit);
    gl.uniform1f(at("dim"), dim);
    gl.uniform1f(at("alpha"), alpha);
    gl.uniformMatrix4fv(at("model"), false, model);
    gl.depthMask(write);
    gl.bindVertexArray(mesh.vao);
    if (mesh.faces) gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
    else gl.drawArrays(gl.TRIANGLES, 0, mesh.count);
    gl.depthMask(true);
  }

  function drawFloor({ matrix }, colours, { target, distance }) {
    const at = (name) => gl.getUniformLocation(parts.floor, name);
    gl.useProgram(parts.floor);
    gl.uniformMatrix4fv(at("camera"), false, matrix);
    gl.uniform2f(at("middle"), target[0], target[2]);
    gl.uniform1f(at("reach"), 1.6 * distance);
    gl.uniform3fv(at("grid"), colours.grid);
    gl.depthMask(false);
    gl.bindVertexArray(parts.square.vao);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.depthMask(true);
  }

  /* surface: arrays of the body, or null where there is none; marks and bones: piles; ghost: the body as a veil. */
  return function draw({ look, colours, surface, marks, bones, ghost }) {
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...colours.stage, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
    const camera = lookFrom(look, canvas.width / canvas.height);
    gl.enable(gl.BLEND);
    drawFloor(camera, colours, look);
    gl.useProgram(parts.lit);
    gl.uniformMatrix4fv(gl.getUniformLocation(parts.lit, "camera"), false, camera.matrix);
    gl.uniform3fv(gl.getUniformLocation(parts.lit, "eye"), camera.eye);
    if (surface) {
      fill(parts.surface, [surface.places, surface.normals, surface.tints], surface.faces);
      gl.enable(gl.STENCIL_TEST);
      gl.stencilFunc(gl.EQUAL, 0, 255); /* every point of the floor is darkened once */
      put(parts.surface, { dim: 0, alpha: colours.shade, model: SHADOW, write: false });
      gl.disable(gl.STENCIL_TEST);
    }
    fill(parts.pile, [marks.places, marks.normals, marks.tints]);
    put(parts.pile, { lit: 0, alpha: 0.75, write: false });
    fill(parts.pile, [bones.places, bones.normals, bones.tints]);
    put(parts.pile);
    if (surface) put(parts.surface, ghost ? { alpha: 0.13, write: false } : {});
  };
}

/* Where WebGL is missing: limbs as lines. */
function makeSketch(canvas) {
  const pen = canvas.getContext("2d");
  return function draw({ look, colours, limbs }) {
    const { matrix } = lookFrom(look, canvas.width / canvas.height), css = (rgb) => `rgb(${rgb.map((x) => Math.round(255 * x))})`;
    const project = (p) => {
      const [x, y, , w] = [0, 1, 2, 3].map((r) => matrix[r] * p[0] + matrix[4 + r] * p[1] + matrix[8 + r] * p[2] + matrix[12 + r]);
      return { x: ((x / w + 1) / 2) * canvas.width, y: ((1 - y / w) / 2) * canvas.height, w };
    };
    const line = (a, b, colour, width) => {
      if (a.w < 0.05 || b.w < 0.05) return;
      Object.assign(pen, { strokeStyle: colour, lineWidth: width, lineCap: "round" });
      pen.beginPath();
      pen.moveTo(a.x, a.y);
      pen.lineTo(b.x, b.y);
      pen.stroke();
    };
    pen.fillStyle = css(colours.stage);
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const [mx, mz] = [Math.round(look.target[0]), Math.round(look.target[2])];
    for (let i = -2; i <= 2; i += 0.5) {
      line(project([mx + i, 0, mz - 2]), project([mx + i, 0, mz + 2]), css(colours.grid), 1);
      line(project([mx - 2, 0, mz + i]), project([mx + 2, 0, mz + i]), css(colours.grid), 1);
    }
    const drawn = limbs.map(({ a, b, tint }) => ({ a: project(a), b: project(b), tint })).sort((p, q) => q.a.w + q.b.w - p.a.w - p.b.w);
    for (const { a, b, tint } of drawn) line(a, b, css(tint), (0.04 * canvas.height) / a.w);
  };
}

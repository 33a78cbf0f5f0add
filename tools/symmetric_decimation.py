"""Quadric edge collapse that keeps a closed mesh closed, left-right symmetric, and its vertices a subset.

The quadric error is Garland and Heckbert, "Surface simplification using quadric error metrics" (1997), with subset
placement (a vertex is merged into a neighbour, never moved), so everything defined on the full mesh carries over by
indexing.
"""

import heapq

import numpy as np
from scipy.spatial import cKDTree

SHAPE_WEIGHT = 1e-3  # share of squared edge length in the cost: keeps flat regions evenly tessellated


def mirror_of(vertices: np.ndarray, tolerance_m: float = 1e-4) -> np.ndarray:
    """Index of each vertex's mirror image under x -> -x; midline vertices map to themselves."""
    distance, mirror = cKDTree(vertices).query(vertices * np.array([-1.0, 1.0, 1.0]))
    if distance.max() > tolerance_m or not np.array_equal(mirror[mirror], np.arange(len(vertices))):
        raise ValueError(f"mesh is not symmetric: worst mirror distance {distance.max():.2e} m")
    return mirror


def symmetric_triangles(quads: np.ndarray, vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Split quads along the shorter diagonal on the left half and mirror that choice to the right half."""
    triangles = []
    for quad in quads[vertices[quads, 0].mean(1) > 0]:
        a, b, c, d = quad
        short_ac = np.linalg.norm(vertices[a] - vertices[c]) <= np.linalg.norm(vertices[b] - vertices[d])
        for tri in ((a, b, c), (a, c, d)) if short_ac else ((a, b, d), (b, c, d)):
            if len(set(tri)) == 3:
                triangles += [tri, tuple(mirror[list(tri[::-1])])]
    return np.array(triangles)


class _Mesh:
    """Triangles by vertex, with the quadric of every vertex."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, importance: np.ndarray) -> None:
        self.x = vertices
        self.faces = {i: tuple(int(k) for k in t) for i, t in enumerate(triangles)}
        self.by_vertex: list[set[int]] = [set() for _ in vertices]
        self.quadric = np.zeros((len(vertices), 4, 4))
        for i, tri in self.faces.items():
            a, b, c = vertices[list(tri)]
            normal = np.cross(b - a, c - a)
            area2 = np.linalg.norm(normal)
            plane = np.append(normal, -normal @ a) / max(area2, 1e-12)
            for k in tri:
                self.by_vertex[k].add(i)
                self.quadric[k] += 0.5 * area2 * importance[k] * np.outer(plane, plane)
        self.importance = importance

    def ring(self, v: int) -> set[int]:
        return {k for i in self.by_vertex[v] for k in self.faces[i]} - {v}

    def cost(self, v: int, u: int) -> float:
        p = np.append(self.x[u], 1.0)
        edge = self.x[u] - self.x[v]
        length2 = float(edge @ edge)
        return float(p @ (self.quadric[v] + self.quadric[u]) @ p) + SHAPE_WEIGHT * self.importance[v] * length2**2

    def flips(self, v: int, u: int) -> bool:
        for i in self.by_vertex[v]:
            tri = self.faces[i]
            if u in tri:
                continue
            a, b, c = self.x[list(tri)]
            before = np.cross(b - a, c - a)
            a, b, c = (self.x[u if k == v else k] for k in tri)
            after = np.cross(b - a, c - a)
            scale = np.linalg.norm(before) * np.linalg.norm(after)
            longest2 = max(((a - b) ** 2).sum(), ((b - c) ** 2).sum(), ((c - a) ** 2).sum())
            if before @ after < 0.2 * scale or np.linalg.norm(after) < 0.05 * longest2:
                return True
        return False

    def may_collapse(self, v: int, u: int) -> bool:
        """Link condition: the collapse keeps the surface a closed manifold."""
        return len(self.ring(v) & self.ring(u)) == 2 and len(self.ring(u)) > 3 and not self.flips(v, u)

    def collapse(self, v: int, u: int) -> None:
        for i in list(self.by_vertex[v]):
            tri = self.faces[i]
            if u in tri:
                for k in tri:
                    self.by_vertex[k].discard(i)
                del self.faces[i]
            else:
                self.faces[i] = tuple(u if k == v else k for k in tri)
                self.by_vertex[u].add(i)
        self.by_vertex[v] = set()
        self.quadric[u] += self.quadric[v]


def decimate(
    vertices: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, importance: np.ndarray, keep: set[int], target: int
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse mirrored pairs of edges until `target` vertices are left.

    Args:
        vertices: [v, 3] positions.
        triangles: [f, 3], closed and symmetric.
        mirror: [v] mirror index.
        importance: [v] factor on the error, small where detail may go first.
        keep: vertices that must survive.
        target: vertices wanted, exactly.

    Returns:
        Indices of the kept vertices (ascending) and triangles in the new numbering.
    """
    mesh = _Mesh(vertices, triangles, importance)
    heap = [(mesh.cost(v, u), v, u) for v in range(len(vertices)) for u in mesh.ring(v)]
    heapq.heapify(heap)
    alive = np.ones(len(vertices), bool)
    left = len(vertices)
    while left > target:
        if not heap:
            raise ValueError(f"no collapse is left at {left} vertices, {target} wanted")
        cost, v, u = heapq.heappop(heap)
        mv, mu = int(mirror[v]), int(mirror[u])
        central = v == mv
        if not (alive[v] and alive[u]) or v in keep or mv in keep or u not in mesh.ring(v):
            continue
        if central != (v == mv and u == mu) or (not central and left - target < 2):
            continue
        fresh = mesh.cost(v, u)
        if fresh > cost * (1 + 1e-9) + 1e-18:
            heapq.heappush(heap, (fresh, v, u))
            continue
        shared = mesh.ring(v) & mesh.ring(mv)
        if not central and (mv in mesh.ring(v) or u == mv or shared - ({u} & {mu})):
            continue
        if not mesh.may_collapse(v, u):
            continue
        mesh.collapse(v, u)
        alive[v] = False
        left -= 1
        if not central:
            mesh.collapse(mv, mu)
            alive[mv] = False
            left -= 1
        for k in {u, mu}:
            for n in mesh.ring(k):
                heapq.heappush(heap, (mesh.cost(n, k), n, k))
                heapq.heappush(heap, (mesh.cost(k, n), k, n))
    kept = np.flatnonzero(alive)
    number = np.full(len(vertices), -1)
    number[kept] = np.arange(len(kept))
    return kept, number[np.array(list(mesh.faces.values()))]

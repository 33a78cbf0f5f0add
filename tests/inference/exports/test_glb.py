import json
import struct

import numpy as np
import pytest
import trimesh
from pygltflib import GLTF2
from scipy.spatial.transform import Rotation

from aign.body.assets import load_body
from aign.geometry.skeleton import SMPL24
from aign.inference.exports.glb import error_mm, pruned, write_glb
from aign.inference.exports.rig import BONE_NAMES

from .clips import HOSTILE, captured, posed, skinned, standing

DTYPES = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Reader:
    """The file by pygltflib; posed and skinned here as the glTF specification says, knowing nothing of SMPL."""

    def __init__(self, path):
        self.gltf = GLTF2().load(str(path))
        self.blob = self.gltf.binary_blob()
        self.clip = self.gltf.animations[0]
        self.times = self.rows(self.clip.samplers[0].input)[:, 0]

    def rows(self, index):
        accessor = self.gltf.accessors[index]
        view = self.gltf.bufferViews[accessor.bufferView]
        width = WIDTHS[accessor.type]
        found = np.frombuffer(self.blob, DTYPES[accessor.componentType], accessor.count * width, view.byteOffset)
        return found.reshape(-1, width)

    def nodes(self, frame=None):
        """World matrix of every node; frame None: as the nodes stand, without the animation."""
        local = [(n.translation or [0, 0, 0], n.rotation or [0, 0, 0, 1]) for n in self.gltf.nodes]
        for channel in self.clip.channels if frame is not None else ():
            value = self.rows(self.clip.samplers[channel.sampler].output)[frame]
            moved, turned = local[channel.target.node]
            local[channel.target.node] = (value, turned) if channel.target.path == "translation" else (moved, value)
        world = {}

        def visit(node, above):
            here = np.eye(4)
            here[:3, :3], here[:3, 3] = Rotation.from_quat(local[node][1]).as_matrix(), local[node][0]
            world[node] = above @ here
            for child in self.gltf.nodes[node].children or ():
                visit(child, world[node])

        for node in self.gltf.scenes[0].nodes:
            visit(node, np.eye(4))
        return world

    def joints(self, frame=None):
        named = {self.gltf.nodes[i].name: m[:3, 3] for i, m in self.nodes(frame).items()}
        return np.stack([named[name] for name in BONE_NAMES])

    def vertices(self, frame):
        world, skin = self.nodes(frame), self.gltf.skins[0]
        attributes = self.gltf.meshes[0].primitives[0].attributes
        unbind = self.rows(skin.inverseBindMatrices).reshape(-1, 4, 4).swapaxes(1, 2)
        moves = np.stack([world[j] for j in skin.joints]) @ unbind
        position, weights = self.rows(attributes.POSITION), self.rows(attributes.WEIGHTS_0)
        blend = np.einsum("vk,vkij->vij", weights, moves[self.rows(attributes.JOINTS_0)])
        return np.einsum("vij,vj->vi", blend[:, :3, :3], position) + blend[:, :3, 3]


def written(tmp_path, clip, licences=("CC0-1.0",)):
    write_glb(tmp_path / "motion.glb", clip, licences)
    return Reader(tmp_path / "motion.glb")


@pytest.mark.parametrize("name", ["cartwheel", "walk"])
def test_joints_are_ours_in_every_frame_and_vertices_in_some(tmp_path, name):
    clip = captured(name)
    reader = written(tmp_path, clip)
    vertices, joints = skinned(clip)
    for frame in range(len(joints)):
        assert np.abs(reader.joints(frame) - joints[frame]).max() < 1e-5, "metres; 1 mm is promised"
    for frame in (0, len(joints) // 2, len(joints) - 1):
        assert np.abs(reader.vertices(frame) - vertices[frame]).max() < 2e-5, "the default body loses nothing"
    assert error_mm(clip).most_mm < 0.01


def test_the_stated_error_is_the_error(tmp_path, smpl_like_body):
    clip = captured(step=12, body=smpl_like_body)
    reader = written(tmp_path, clip)
    vertices, joints = skinned(clip)
    assert max(np.abs(reader.joints(f) - joints[f]).max() for f in range(len(joints))) < 1e-5
    off = [np.linalg.norm(reader.vertices(f) - vertices[f], axis=-1) * 1000 for f in range(len(vertices))]
    stated = reader.gltf.asset.extras["skin_error_mm"]
    assert stated["mean"] == pytest.approx(np.mean(off), abs=0.01)
    assert stated["most"] == pytest.approx(np.max(off), abs=0.05)
    assert 1 < stated["most"] < 200


def test_weights_are_four_that_sum_to_one(tmp_path, smpl_like_body):
    kept, joints = pruned(smpl_like_body.weights)
    assert kept.shape == joints.shape == (6890, 4)
    assert (smpl_like_body.weights > 0).sum(1).min() > 4
    assert (kept.sum(1) - 1).abs().max() < 1e-6
    best = smpl_like_body.weights.argmax(1)
    assert (joints[:, 0] == best).all()
    kept, joints = pruned(load_body().weights)
    assert not joints[kept == 0].any()


def test_trimesh_reads_the_mesh_standing_on_the_floor(tmp_path):
    written(tmp_path, captured())
    scene = trimesh.load(tmp_path / "motion.glb")
    (mesh,) = scene.geometry.values()
    assert mesh.vertices.shape == (6890, 3)
    assert mesh.faces.shape == (13776, 3)
    assert mesh.bounds[0, 1] == pytest.approx(0, abs=1e-6)
    assert 1.5 < mesh.bounds[1, 1] < 2.1
    assert mesh.volume > 0.03, "faces look outwards"
    np.testing.assert_allclose(np.linalg.norm(mesh.vertex_normals, axis=1), 1, atol=1e-5)
    at = {node: scene.graph.get(node)[0][:3, 3] for node in BONE_NAMES}
    joints = np.stack([at[name] for name in BONE_NAMES])
    standing(joints, {name: i for i, name in enumerate(SMPL24.joints)})
    np.testing.assert_allclose(joints, Reader(tmp_path / "motion.glb").joints(), atol=1e-6)


def test_rate_duration_and_quaternions_that_do_not_flip(tmp_path):
    clip = captured("roll", step=3)
    reader = written(tmp_path, clip)
    frames = len(clip.known)
    np.testing.assert_allclose(reader.times, np.arange(frames) / clip.motion.fps, atol=1e-6)
    accessor = reader.gltf.accessors[reader.clip.samplers[0].input]
    assert (accessor.min, accessor.max) == ([0.0], [float(reader.times[-1])])
    for channel in reader.clip.channels:
        if channel.target.path == "rotation":
            turns = reader.rows(reader.clip.samplers[channel.sampler].output)
            np.testing.assert_allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-6)
            assert ((turns[1:] * turns[:-1]).sum(1) > 0).all()
    assert len(reader.clip.channels) == 25


def test_the_container_is_whole_and_aligned(tmp_path):
    written(tmp_path, captured("run"))
    content = (tmp_path / "motion.glb").read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack("<I4s", content[12:20])
    document = json.loads(content[20 : 20 + size])
    assert kind == b"JSON"
    assert size % 4 == 0
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])
    last = document["bufferViews"][-1]
    assert last["byteOffset"] + last["byteLength"] == document["buffers"][0]["byteLength"] == length - size - 28


def test_licences_and_units_are_in_the_file(tmp_path):
    asset = written(tmp_path, captured(), ("AMASS licence (research only)", "CC0-1.0")).gltf.asset
    assert asset.copyright == "AMASS licence (research only); CC0-1.0"
    assert asset.extras["licences"] == ["AMASS licence (research only)", "CC0-1.0"]
    assert asset.extras["units"] == "metres"
    assert "+y up" in asset.extras["axes"]


def test_one_frame_and_a_hostile_name(tmp_path):
    clip = captured("run", step=1000, name=HOSTILE)
    reader = written(tmp_path, clip)
    assert reader.times.tolist() == [0.0]
    assert reader.clip.name.isprintable()
    np.testing.assert_allclose(reader.joints(0), skinned(clip)[1][0], atol=1e-5)


def test_half_turns(tmp_path):
    """Where a quaternion's sign is undecided, and a turn all around."""
    turned = np.tile(np.eye(3), (9, 24, 1, 1))
    turned[:, 0] = Rotation.from_euler("Y", np.arange(0, 405, 45)[:, None], degrees=True).as_matrix()
    turned[:, 18] = Rotation.from_rotvec([[0, np.pi * (-1) ** k, 0] for k in range(9)]).as_matrix()
    clip = posed(turned)
    reader = written(tmp_path, clip)
    assert max(np.abs(reader.joints(f) - skinned(clip)[1][f]).max() for f in range(9)) < 1e-5

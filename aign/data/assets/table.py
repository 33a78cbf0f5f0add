"""The literal table of what can be pulled: which bytes of which package, and what they are for."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Package:
    """A pinned release on a public registry.

    Attributes:
        registry: pypi (fetched with pip) or npm (fetched with `npm pack`).
        archive_bytes: size of the wheel or tarball, for the progress bar and the disk check.
        licence: of the package, as it states it.
    """

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    archive_bytes: int
    licence: str


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file of a package.

    Attributes:
        name: what `aign assets pull NAME` calls it; also its file name in the cache, with `suffix`.
        group: what belongs together and can be pulled under one name.
        member: path inside the archive.
        first_bytes: take only so many bytes of the member (a packed .data file); None: all.
        start_byte: where they begin.
    """

    name: str
    group: str
    package: Package
    member: str
    size_bytes: int
    sha256: str
    purpose: str
    suffix: str
    first_bytes: int | None = None
    start_byte: int = 0

    @property
    def file_name(self) -> str:
        """Name in the cache directory."""
        return self.name + self.suffix


NPM_POSE = Package(
    registry="npm",
    name="@mediapipe/pose",
    version="0.5.1675469404",
    archive_bytes=40985403,
    licence="Apache-2.0",
)
PIP_POSE = Package(registry="pypi", name="mediapipe", version="0.10.21", archive_bytes=35622638, licence="Apache-2.0")
POSE2SIM = Package(
    registry="pypi",
    name="pose2sim",
    version="0.10.49",
    archive_bytes=51189031,
    licence="BSD-3-Clause, (c) perfanalytics",
)
SPORTS2D = Package(
    registry="pypi",
    name="sports2d",
    version="0.8.34",
    archive_bytes=9050415,
    licence="BSD-3-Clause, (c) perfanalytics",
)
PYBULLET = Package(
    registry="pypi",
    name="pybullet",
    version="3.2.7",
    archive_bytes=103196742,
    licence="zlib (the package; its motion clips carry no notice of their own)",
)

PMNDRS_ASSETS = Package(
    registry="npm",
    name="@pmndrs/assets",
    version="1.7.0",
    archive_bytes=13774995,
    licence="CC0-1.0 (panoramas by Poly Haven)",
)

NPM_FACE_MESH = Package(
    registry="npm",
    name="@mediapipe/face_mesh",
    version="0.4.1657299874",
    archive_bytes=7423898,
    licence="Apache-2.0",
)
NPM_FACE_API = Package(
    registry="npm",
    name="@vladmandic/face-api",
    version="1.7.15",
    archive_bytes=12677476,
    licence="MIT",
)


def _motion(name: str, member: str, size_bytes: int, sha256: str) -> Asset:
    return Asset(
        name=f"motion_{name}",
        group="motions",
        package=PYBULLET,
        member=f"pybullet_data/data/motions/{member}",
        size_bytes=size_bytes,
        sha256=sha256,
        purpose="human motion clip (DeepMimic layout)",
        suffix=PurePosixPath(member).suffix,
    )


def _video(number: int, size_bytes: int, sha256: str) -> Asset:
    return Asset(
        name=f"pose2sim_cam{number:02d}",
        group="pose2sim",
        package=POSE2SIM,
        member=f"Pose2Sim/Demo_SinglePerson/videos/cam{number:02d}.mp4",
        size_bytes=size_bytes,
        sha256=sha256,
        purpose=f"real video, camera {number} of 4 (100 frames, 60 fps)",
        suffix=".mp4",
    )


def _background(name: str, size_bytes: int, sha256: str) -> Asset:
    # The package's 18th panorama, "sky", shows no ground to stand on.
    return Asset(
        name=f"background_{name}",
        group="backgrounds",
        package=PMNDRS_ASSETS,
        member=f"package/hdri/{name}.exr.js",
        size_bytes=size_bytes,
        sha256=sha256,
        purpose="HDR panorama 512 x 256 (OpenEXR in base64)",
        suffix=".exr.js",
    )


def _face_net(name: str, start_byte: int, size_bytes: int, sha256: str, purpose: str) -> Asset:
    return Asset(
        name=name,
        group="face",
        package=NPM_FACE_MESH,
        member="package/face_mesh_solution_packed_assets.data",
        start_byte=start_byte,
        first_bytes=size_bytes,
        size_bytes=size_bytes,
        sha256=sha256,
        purpose=purpose,
        suffix=".tflite",
    )


def _face_judge(name: str, file: str, size_bytes: int, sha256: str) -> Asset:
    return Asset(
        name=name,
        group="face_judge",
        package=NPM_FACE_API,
        member=f"package/model/{file}",
        size_bytes=size_bytes,
        sha256=sha256,
        purpose="age and sex of photographed faces, for evaluation",
        suffix=PurePosixPath(file).suffix,
    )


def _two_people(number: int, size_bytes: int, sha256: str) -> Asset:
    return Asset(
        name=f"pose2sim_trial2_cam{number:02d}",
        group="pose2sim_two_people",
        package=POSE2SIM,
        member=f"Pose2Sim/Demo_Batch/Trial_2/videos/cam{number:02d}.mp4",
        size_bytes=size_bytes,
        sha256=sha256,
        purpose=f"real video of two people, camera {number} of 4 (100 frames, 60 fps)",
        suffix=".mp4",
    )


ON_DEMAND = ("motions", "backgrounds", "pose2sim_two_people", "sports2d", "pose_pip", "face", "face_judge")
"""Groups that are fetched only where they are named: large, or for one purpose."""

ASSETS: tuple[Asset, ...] = (
    Asset(
        name="pose_detector",
        group="pose",
        package=NPM_POSE,
        member="package/pose_solution_packed_assets.data",
        first_bytes=2962288,
        size_bytes=2962288,
        sha256="a63c614bef30d35947f13be361820b1e4e3bec9cfeebf4d11216a18373108e85",
        purpose="BlazePose person detector",
        suffix=".tflite",
    ),
    Asset(
        name="pose_landmark_heavy",
        group="pose",
        package=NPM_POSE,
        member="package/pose_landmark_heavy.tflite",
        size_bytes=27709200,
        sha256="59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
        purpose="BlazePose landmarks, the most accurate net",
        suffix=".tflite",
    ),
    Asset(
        name="pose_detector_pip",
        group="pose_pip",
        package=PIP_POSE,
        member="mediapipe/modules/pose_detection/pose_detection.tflite",
        size_bytes=2959046,
        sha256="9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        purpose="BlazePose person detector, where npm is missing",
        suffix=".tflite",
    ),
    Asset(
        name="pose_landmark_full",
        group="pose_pip",
        package=PIP_POSE,
        member="mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        size_bytes=6440512,
        sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        purpose="BlazePose landmarks, where npm is missing",
        suffix=".tflite",
    ),
    _face_net(
        "face_detector",
        3757224,
        229032,
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        "BlazeFace detector, short range",
    ),
    _face_net(
        "face_landmark",
        2495952,
        1241896,
        "c603fa6149219a3e9487dc9abd7a0c24474c77263273d24868378cdf40aa26d1",
        "468 landmarks of a face",
    ),
    _face_judge(
        "age_gender_manifest",
        "age_gender_model-weights_manifest.json",
        8392,
        "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f",
    ),
    _face_judge(
        "age_gender_weights",
        "age_gender_model.bin",
        429708,
        "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
    ),
    _video(1, 387775, "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a"),
    _video(2, 540548, "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442"),
    _video(3, 1709101, "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca"),
    _video(4, 1772999, "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7"),
    _two_people(1, 764061, "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53"),
    _two_people(2, 610385, "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b"),
    _two_people(3, 801091, "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99"),
    _two_people(4, 877130, "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09"),
    Asset(
        name="sports2d_demo",
        group="sports2d",
        package=SPORTS2D,
        member="Sports2D/Demo/demo.mp4",
        size_bytes=3968304,
        sha256="d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
        purpose="real video outdoors: one stands, jumps off a roof and runs, one walks by (230 frames, 30 fps)",
        suffix=".mp4",
    ),
    Asset(
        name="pose2sim_calibration",
        group="pose2sim",
        package=POSE2SIM,
        member="Pose2Sim/Demo_SinglePerson/calibration/Calib.qca.txt",
        size_bytes=4843,
        sha256="fd90e4bbae3278ef1dc0cdd42a34ee06bf88286f628a02c00a29407aa39e34c5",
        purpose="calibration of the 4 cameras",
        suffix=".qca.txt",
    ),
    _motion(
        "backflip", "humanoid3d_backflip.txt", 13536, "ffc5e117f69364e239eeedc86d6a30ab854500a375a1c137a405f1b7652905e6"
    ),
    _motion(
        "cartwheel",
        "humanoid3d_cartwheel.txt",
        75101,
        "17453459a40ec4ea08346072748ae3c7c384b49e619753e9779637fa8a9f7c49",
    ),
    _motion("crawl", "humanoid3d_crawl.txt", 80707, "104a3b675131a43e7a214e24c0ed631c6a0d814b85c8b66b71ce63b23a5731ae"),
    _motion(
        "dance_a", "humanoid3d_dance_a.txt", 90879, "15ef3731f594edc9ed078170f1075815cc164acaca9e35a46db12a31ac64b717"
    ),
    _motion(
        "dance_b", "humanoid3d_dance_b.txt", 141863, "b5a9d7a3f2304f6242776d7ff6d19d1f6bcb98d78d68622761c3843b614a92b5"
    ),
    _motion(
        "getup_facedown",
        "humanoid3d_getup_facedown.txt",
        169673,
        "1bd1a96e9175f65eb66e10f225473b4467bd70c68e283f4006b2ab090e337c0b",
    ),
    _motion(
        "getup_faceup",
        "humanoid3d_getup_faceup.txt",
        210461,
        "5936c32d51dad9b0cd5e61df681079d160436cdce845c312f200d7a347c4040d",
    ),
    _motion("jump", "humanoid3d_jump.txt", 99221, "a433557e94b193d8a95530572a0e32f387eb6d9996987b4216efb65444c3c641"),
    _motion("kick", "humanoid3d_kick.txt", 43601, "177cfb399466309ba7f4a8a987c3b6f6edde1cbe8b2d476e53dc6061ec5d4bac"),
    _motion("punch", "humanoid3d_punch.txt", 60287, "1ab4b654cecdb4ff3b2a4bf4086e50397bef28435bb59ab3aedd6a6bdc926fde"),
    _motion("roll", "humanoid3d_roll.txt", 55136, "50d75c2243b2859f8dcae4ad8fa14b59054dd9ee529b4fb52ec14470cd982c55"),
    _motion("run", "humanoid3d_run.txt", 23284, "2cbe488023b243e5769299158ce7c78875ec4b701a2ffe6c0beeaf83d16ca87b"),
    _motion("spin", "humanoid3d_spin.txt", 49517, "9614f10b92e7a8b123990ad5bcfafc65aa4d8fa8ac7f10ade3c3591122d34425"),
    _motion(
        "spinkick", "humanoid3d_spinkick.txt", 35643, "60ec9c200d96e0cd71693061f24db0bd8da9eb295daf487f6f60f8dfb324075a"
    ),
    _motion("walk", "humanoid3d_walk.txt", 36185, "32d082c3599bc40aac50b1afa196ff1e2cf3842bb40f0541ab088845f6328a41"),
    _motion(
        "walker_walk_forward",
        "walker/0walk_forward.txt",
        43638,
        "a8790c45361077ff07d99c3f00a1fa73b78ff3ec77d083188f13eac75dcc0a58",
    ),
    _motion(
        "walker_turn_left0",
        "walker/turn_left0.txt",
        43495,
        "5120bb55a4eb3ecfa75bcffcd472ad0b5be01647536f707896b9a9af655d6fce",
    ),
    _motion(
        "walker_turn_left1",
        "walker/turn_left1.txt",
        43395,
        "e78540dcccfad969ff1304182de293714c1db163096ee37a02dbf34930e0c3d0",
    ),
    _motion(
        "walker_turn_right0",
        "walker/turn_right0.txt",
        43388,
        "c1fa371a7d7d625970ad7fec0bb2d7ba59205acb74f8fac15f46799ae3a80ce3",
    ),
    _motion(
        "walker_turn_right1",
        "walker/turn_right1.txt",
        43499,
        "3a655a1e9334cef592b5b7bef4fd7a52e46fcacc8c7c807cfa1bee8249e6350d",
    ),
    _background("apartment", 133914, "74c0206dd58bed5fd0795194c3eb0d6f1a7e30c26a831dc239617de707d3a6d8"),
    _background("bridge", 191870, "0e0c4def1bd2e8f88d13de12e708047a103b845116f6a04737a25127ad115cb0"),
    _background("city", 177918, "dcb14d9dfc48d83e7cc38c7fbb76416cac3a959a59a80d4b0fbfd9dbf4a05ed3"),
    _background("dawn", 242978, "455ea02a016b2d177faa501e812ea993b43f223480fe3fe6abded88c5f242cf2"),
    _background("esplanade", 347038, "1c7a9a7da193deafd6494a55c21a0a198b72e9024a5faae6e2d3db66a87154dc"),
    _background("forest", 417198, "d37ba5af4a60e169f22482f299a14dde2c84455142eb2074d791c863aa619a79"),
    _background("hall", 255502, "55db560c95f87b2c0cb82079d87c684fb0be8890d33e97a3628246740bef09e2"),
    _background("lab", 221382, "3adb2d8b79177fe47c8d9fc50e52b8d5329ff6ba8409bd38d519fbce1e09d7d3"),
    _background("lobby", 211638, "58150e771d20555ebe4a9fc0e1e1aede23de9096430c71d3107017e8a13dc7a6"),
    _background("night", 205954, "e76f8e31dad6f491ff83fc3182551b1867c499464569a87d5d2874efb374f66e"),
    _background("park", 210502, "88947c10444e0c5f0e51018e5b69af9a7489baab9e8034b0044686c2d8fd7a8c"),
    _background("studio", 147694, "bdbc4502798c49310b46e57f27ffa8532a7f0a7c2f6708362132be225f0cfdbd"),
    _background("sunrise", 224770, "36c7e652f58293b59a235add4b9399d450a24ea79b78709bcd1198246b08a68f"),
    _background("sunset", 197858, "57ab9a1e5aec61f1816b2b977646d0baf82a4adf61bfe9d4a8313138f2f50e7c"),
    _background("venice", 245790, "08d9d3255f50ffba3a2aa37a95abbcd0944282b90101877b5d0abf340ee0642a"),
    _background("warehouse", 213382, "ce15dbb7b20bfd3c1daa478fec3425c6a8efa7ae5e2fe4d501033a1bcc1bd90a"),
    _background("workshop", 305698, "32b92ffdb6aca9d5f73f13bbf9bd2d7b47169522de69f7fc4b18cf1da6beb048"),
)

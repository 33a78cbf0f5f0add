"""Every picture that a face model altered says so: a mark in its corner, and text in its file.

The files are PNG: what was not altered stays as it was, and PNG's text chunks hold the words. Beside them stands XMP
with IPTC's digital source type, which picture agencies and platforms read. A copy without text keeps the visible mark.
"""

import struct
import zlib
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import UInt8

from aign import __version__
from aign.framework.errors import UserError

SYNTHETIC = "synthetic"
"""What the visible mark says, where it fits."""
SHORT = "AI"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a picture with elements that a trained model made."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEIGHT_SHARE, _LEAST_PX = 0.035, 7
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>'
)


def marked(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with the visible mark: white on black in the lower right corner, at most a third of the width."""
    out = image.copy()
    height, width = image.shape[:2]
    letter = max(_LEAST_PX, round(_HEIGHT_SHARE * min(height, width)))
    scale = cv2.getFontScaleFromHeight(_FONT, letter, 1)
    for text in (SYNTHETIC, SHORT):
        (wide, high), below = cv2.getTextSize(text, _FONT, scale, 1)
        if wide + 4 <= width / 3 or text == SHORT:
            break
    corner = (max(width - wide - 3, 0), height - below - 2)
    cv2.rectangle(out, (corner[0] - 3, corner[1] - high - 3), (width - 1, height - 1), (0, 0, 0), cv2.FILLED)
    cv2.putText(out, text, corner, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def marked_png(image: UInt8[np.ndarray, "h w 3"], model: str, what: str) -> bytes:
    """A picture as a PNG file with both marks.

    Args:
        image: altered, not yet marked.
        model: that altered it.
        what: what was done, in words.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(marked(image), cv2.COLOR_RGB2BGR))
    assert done, "OpenCV writes PNG"
    return with_texts(
        data.tobytes(),
        {
            "Comment": f"Synthetic: {what}, by the model {model}. This picture does not show what a camera saw.",
            "Software": f"aign {__version__}",
            "XML:com.adobe.xmp": _XMP,
        },
    )


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG file with text in it, as international text chunks behind its header (PNG specification, 11.3.4.5)."""
    head = len(_SIGNATURE) + 25
    assert png.startswith(_SIGNATURE), "a PNG file"
    return png[:head] + b"".join(_chunk(key, text) for key, text in texts.items()) + png[head:]


def _chunk(keyword: str, text: str) -> bytes:
    # Keyword, then neither compressed nor in a language that is named.
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def texts_of(png: bytes) -> dict[str, str]:
    """The international texts in a PNG file.

    Raises:
        UserError: no whole PNG file.
    """
    found: dict[str, str] = {}
    at = len(_SIGNATURE)
    if not png.startswith(_SIGNATURE):
        raise UserError("got a file that is no PNG")
    while at + 8 <= len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        if kind == b"iTXt" and body.count(b"\0") >= 5:
            keyword, rest = body.split(b"\0", 1)
            found[keyword.decode("latin-1")] = rest[2:].split(b"\0", 2)[2].decode()
        if kind == b"IEND":
            return found
        at += 12 + length
    raise UserError("got a PNG file that is cut off")

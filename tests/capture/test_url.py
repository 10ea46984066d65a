"""Source URLs: each mistake is an error that says what was expected, and nothing is opened by parsing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.capture import open_source
from bloodcell_edge.capture.url import SourceUrl
from bloodcell_edge.errors import BceError, MissingFile, SourceError

KNOWN = ("folder", "camera", "rtsp", "http", "video", "fake")


@pytest.mark.parametrize(
    ("text", "scheme", "place", "settings"),
    [
        ("folder:slides/a b?recursive=1", "folder", "slides/a b", {"recursive": "1"}),
        ("folder:what?", "folder", "what?", {}),
        ("/dev/video2?gain=4", "camera", "/dev/video2", {"gain": "4"}),
        ("camera:0?width=640&height=480", "camera", "0", {"width": "640", "height": "480"}),
        ("rtsp://u:p@host/x?channel=1", "rtsp", "rtsp://u:p@host/x?channel=1", {}),
        ("http://host/x?user=1#max_age_ms=300", "http", "http://host/x?user=1", {"max_age_ms": "300"}),
    ],
)
def test_a_url_is_taken_apart(text, scheme, place, settings):
    """Scheme, place and settings; what follows ? in a network URL is the server's."""
    url = SourceUrl.parse(text, known=KNOWN)

    assert (url.scheme, url.place, url.settings) == (scheme, place, settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camra:0", r"expected folder:…, .*did you mean camera:0\?"),
        ("", "expected folder:"),
        ("camera:", "nothing to open; expected camera:0"),
        ("http:host", "expected http://HOST/PATH"),
        ("http://:80/", r"expected http://HOST\[:PORT\]/PATH"),
        ("http://host:eighty/", r"expected http://HOST\[:PORT\]/PATH"),
        ("camera:zero", "expected camera:NUMBER"),
        ("picamera:x", "expected picamera:NUMBER"),
        ("picamera:0?red_gain=2", "red_gain and blue_gain together"),
        ("picamera:0?python=/not/there", "/not/there is not there; give python="),
        ("camera:0?width=640", "width and height together"),
        ("camera:0?fourcc=MJPEG", "a fourcc of four letters"),
        ("camera:0?widht=640", r"unknown setting 'widht'; did you mean width\?"),
        ("camera:0?zzz=1", "unknown setting 'zzz'; expected any of max_age_ms"),
        ("camera:0?width=1&width=2", "given twice"),
        ("camera:0?width=wide", "width: expected a whole number from 16 to 20000, found 'wide'"),
        ("folder:.?recursive=maybe", "recursive: expected 1 or 0, found 'maybe'"),
        ("camera:0?gain=nan", "gain: expected a number"),
        ("camera:0?max_age_ms=0", "max_age_ms: expected a number from 1 to 60000, found '0'"),
        ("rtsp://host/x#transport=pigeon", "transport: expected tcp or udp, found 'pigeon'"),
        ("fake:blood", "expected fake:smear, found 'blood'"),
        ("fake:smear?a&cells=1", "expected name=value"),
    ],
)
def test_a_mistake_is_said(text, said):
    """SourceError, also an OSError, with what was expected and what was found."""
    with pytest.raises(SourceError, match=said) as caught:
        open_source(text)

    assert isinstance(caught.value, OSError)


def test_a_folder_without_its_scheme_is_recognized(tmp_path):
    """A bare path of a folder or file is answered with the URL that was meant."""
    (tmp_path / "a.avi").touch()

    with pytest.raises(SourceError, match=f"did you mean folder:{tmp_path}"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match="did you mean video:"):
        open_source(str(tmp_path / "a.avi"))


def test_what_is_not_there_is_said(tmp_path):
    """A missing folder or video is a MissingFile, before anything is iterated."""
    with pytest.raises(MissingFile, match="no such folder"):
        open_source(f"folder:{tmp_path}/gone")
    with pytest.raises(MissingFile, match="no such file"):
        open_source(f"video:{tmp_path}/gone.avi")


def test_only_folders_are_watched():
    """`watch` for a camera is an error, for it goes on by itself."""
    with pytest.raises(SourceError, match="only folders can be watched"):
        open_source("camera:0", watch=True)


def test_a_setting_in_the_url_may_be_given_by_argument():
    """give_up_after_s reaches cameras and leaves other sources alone."""
    with open_source("http://127.0.0.1:9/x", give_up_after_s=2.5) as camera:
        assert camera._options.give_up_after == 2.5
    with open_source("fake:smear", give_up_after_s=2.5) as fake:
        assert fake.endless


@given(st.text(max_size=40), st.sampled_from(["", "folder:", "camera:", "fake:smear?", "http://h/#", "video:"]))
def test_no_url_is_a_bug(text, beginning):
    """Any text opens, or is an error of ours."""
    with contextlib.suppress(BceError):
        open_source(beginning + text).close()


@pytest.mark.parametrize("url", ["rtsp://me:secret@host/x#fps=1", "http://me:secret@:80/", "https://me:secret@h/#a=1"])
def test_a_password_is_in_no_message(url):
    """An error about a URL shows it without its user name and password."""
    with pytest.raises(SourceError) as caught:
        open_source(url)

    assert "secret" not in str(caught.value)

"""What gives access to a source or a target reaches it, and nothing else: no file, no report, no message, no log."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import h5z
from h5z.credentials import joined, redact, separate, shown
from h5z.errors import H5zError, SourceError, one_line
from h5z.source import Dataset
from h5z.target import Target

from .running import BAD_SOURCE, Run
from .stored import listing

SECRET = "s3cr3t+value"
FORMS = {
    "password": "http://user:{secret}@{host}/in.h5",
    "signature": "http://{host}/in.h5?X-Amz-Credential=AKIA&X-Amz-Signature={secret}",
    "signature of a version": "http://{host}/in.h5?versionId=3&sig={secret}",
}


class Guarded(SimpleHTTPRequestHandler):
    """Serves ranges of files to whoever has a password or a signature."""

    def allowed(self) -> bool:
        basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
        query = self.path.partition("?")[2]
        return self.headers.get("Authorization") == f"Basic {basic}" or query.endswith(
            (f"={SECRET}", "=another%2Bone", "=another+one")
        )

    def answer(self, *, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not self.allowed() or not path.is_file():
            self.send_error(403 if not self.allowed() else 404, f"no {self.path}")
            return
        raw = path.read_bytes()
        start, stop = 0, len(raw)
        wanted = self.headers.get("Range", "")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or stop) + 1, stop)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(raw)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{len(raw)}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            self.wfile.write(raw[start:stop])

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that lets nobody in without credentials; it has in.h5."""
    folder = tmp_path_factory.mktemp("served")
    with h5py.File(folder / "in.h5", "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.arange(6000, dtype="<f4").reshape(60, 100), chunks=(10, 100), compression="gzip")
        file["words"] = ["a", "ß"]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def found_in(*texts: Any) -> bool:
    """Whether a secret is in anything, as it is or as a URL has it."""
    text = "".join(text if isinstance(text, str) else json.dumps(text) for text in texts)
    return any(secret in text for secret in (SECRET, "s3cr3t%2Bvalue", "s3cr3t"))


def written(folder: Path) -> str:
    return b"".join(raw for raw in listing(folder).values() if raw).decode("latin-1")


@pytest.mark.parametrize("form", FORMS)
def test_a_source_by_url(host: str, tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is read; what is written, returned, shown or logged names it without its credentials."""
    caplog.set_level(logging.DEBUG, logger="h5z")
    caplog.set_level(logging.INFO)
    url, target = FORMS[form].format(host=host, secret=SECRET), tmp_path / "out.zarr"
    seen: list[str] = []
    tree = h5z.scan(url, measure=True)
    plan = h5z.plan(url, target)
    report = h5z.convert(url, target, verify="full", memory="1MiB", progress=lambda *_: seen.append(written(target)))
    assert report.ok
    assert any('"arrays"' in text for text in seen)  # the plan, while it is carried out
    checked = h5z.verify(url, target)
    assert checked.ok
    plain = FORMS[form].format(host=host, secret="").partition("?")[0].replace("user:@", "")
    assert plan.source.startswith(plain)
    texts = [repr(tree), tree.to_dict(), str(plan), repr(plan), plan.to_dict(), plan._repr_html_(), report.to_dict(), str(report)]
    assert not found_in(*texts, str(checked), checked.to_dict(), written(target), *seen, caplog.text)


def test_another_signature_is_no_other_source(host: str, tmp_path: Path) -> None:
    url = FORMS["signature"].format(host=host, secret=SECRET)
    assert h5z.convert(url, tmp_path / "out.zarr").status == "converted"
    assert h5z.convert(url.replace(SECRET, "another+one"), tmp_path / "out.zarr").status == "unchanged"


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_has_what_its_plan_was_given(host: str, tmp_path: Path, form: str) -> None:
    """In memory, where it travels to workers; not in what the plan writes."""
    plan = h5z.plan(FORMS[form].format(host=host, secret=SECRET), tmp_path / "out.zarr", isolated=True)
    plan = pickle.loads(pickle.dumps(plan))
    h5z.graph(plan).compute(scheduler="threads")
    assert not found_in(written(tmp_path / "out.zarr"))
    h5z.finalize(tmp_path / "out.zarr")
    arrays = h5z.lazy(FORMS[form].format(host=host, secret=SECRET))
    assert arrays["/x"].sum().compute(scheduler="sync") == np.arange(6000).sum()


@pytest.mark.parametrize(
    ("verb", "form"), [("tree", "password"), ("plan", "signature"), ("convert", "password"), ("verify", "signature")]
)
def test_the_command(cli: Run, host: str, tmp_path: Path, verb: str, form: str) -> None:
    """With --json, and where it fails with --debug."""
    url, target = FORMS[form].format(host=host, secret=SECRET), tmp_path / "out.zarr"
    arguments = [url] if verb == "tree" else [url, target]
    if verb == "verify":
        h5z.convert(url, target)
    done = cli(verb, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert not found_in(done.stdout, done.stderr, written(tmp_path))
    arguments[0] = url.replace("in.h5", "missing.h5")
    failed = cli(verb, *arguments, "--debug")
    assert failed.returncode == BAD_SOURCE
    assert "Traceback" in failed.stderr
    assert f"http://{host}/missing.h5" in failed.stderr
    assert not found_in(failed.stdout, failed.stderr)


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_wrong(host: str, tmp_path: Path, form: str) -> None:
    """A server that is not there, one that says no, and a target that cannot be."""
    for place in ("127.0.0.1:9", host):
        url = FORMS[form].format(host=place, secret=f"{SECRET}x")
        for call in (h5z.scan, lambda url: h5z.convert(url, tmp_path / "out.zarr"), lambda url: h5z.scan(url, isolated=True)):
            with pytest.raises(H5zError) as caught:
                call(url)
            assert not found_in(str(caught.value), one_line(caught.value))
    source = tmp_path / "a.h5"
    with h5py.File(source, "w") as file:
        file["x"] = 1
    with pytest.raises(Exception) as failed:
        h5z.convert(source, FORMS[form].format(host=host, secret=SECRET).replace("in.h5", "out.zarr"))
    assert not found_in(one_line(failed.value))


@pytest.fixture
def distributed_logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What distributed's loggers say, each asked itself: its configuration has them hand nothing on."""
    import distributed

    assert distributed.__name__ in logging.Logger.manager.loggerDict
    names = [name for name in logging.Logger.manager.loggerDict if name.partition(".")[0] == distributed.__name__]
    for name in names:
        caplog.set_level(logging.INFO, logger=name)
        logging.getLogger(name).addHandler(caplog.handler)
    yield caplog
    for name in names:
        logging.getLogger(name).removeHandler(caplog.handler)


def test_what_a_scheduler_logs(host: str, distributed_logs: pytest.LogCaptureFixture) -> None:
    """Of a task that failed it logs the arguments."""
    from distributed import Client

    url = FORMS["signature"].format(host=host, secret=SECRET)
    name, options = separate(url, {"client_kwargs": {"headers": {"Authorization": SECRET}}})
    arguments = (Dataset(name, "/x", "<f4", options), Target.of(url, options), h5z.plan(url, "out.zarr"))
    options: dict[str, Any] = {"processes": False, "n_workers": 1, "dashboard_address": None, "silence_logs": False}
    with Client(set_as_default=False, **options) as client:
        future = client.submit(divide, *arguments)
        assert isinstance(future.exception(), ZeroDivisionError)
    assert "divide" in distributed_logs.text
    assert not found_in(distributed_logs.text)


def divide(*_: Any) -> float:
    return 1 / 0


def test_secrets_among_options_are_hidden_from_then_on() -> None:
    """In whatever a library makes of them."""
    options = {
        "key": "AKIA12345",
        "secret": "v3ry/s3cret",
        "client_kwargs": {"headers": [{"X-Token": "tok3n-tok3n"}], "region": "eu-1"},
    }
    url, rest = joined("s3://bucket/a.h5", options)
    assert (url, rest) == ("s3://bucket/a.h5", options)
    text = redact("InvalidKey: AKIA12345 v3ry/s3cret tok3n-tok3n eu-1 s3://bucket/a.h5")
    assert text == "InvalidKey: *** *** *** eu-1 s3://bucket/a.h5"
    assert one_line(SourceError("denied: v3ry/s3cret")) == "denied: ***"


WORD = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789", min_size=8, max_size=20)
RAW = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@:/?#%&\"'<>|\\^`{}=[]"), min_size=8, max_size=30
)


@given(
    secret=RAW,
    user=WORD,
    host=WORD,
    path=WORD,
    place=st.sampled_from(["user", "user with a slash", "query", "bare query", "fragment"]),
)
def test_no_url_shows_its_secret(secret: str, user: str, host: str, path: str, place: str) -> None:
    """Wherever in the URL it stands, alone or in a sentence; host and path stay."""
    secret = f"~{secret}~"
    url = {
        "user": f"https://{user}:{secret}@{host}/{path}.h5",
        "user with a slash": f"s3://{user}:{secret}/{secret}@{host}/{path}.h5",
        "query": f"https://{host}/{path}.h5?a=b&token={secret}",
        "bare query": f"https://{host}/{path}.h5?{secret}",
        "fragment": f"https://{host}/{path}.h5#{secret}",
    }[place]
    scheme = url.partition("://")[0]
    assert shown(url) == f"{scheme}://{host}/{path}.h5"
    assert secret not in redact(f"error: cannot open '{url}' (404)")
    assert secret not in shown(f"simplecache::{url}")
    name, options = separate(url)
    assert name == shown(url)
    assert options is not None
    if scheme == "https":
        assert joined(name, options) == (url, {})
    else:
        assert (options["key"], options["secret"]) == (user, f"{secret}/{secret}")


@pytest.mark.parametrize(
    "name", ["/data/a@b.h5", "a?b=c.h5", "s3://bucket/a@b.h5", "s3://bucket/2?/x*.h5", "https://host:8080/a.h5"]
)
def test_names_without_credentials_stay(name: str) -> None:
    assert (shown(name), separate(name)) == (name, (name, None))
    assert redact(name) == name

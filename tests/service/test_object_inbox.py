"""The service of an inbox in object storage, on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tagmask import Client
from tagmask.corrections import Correction
from tagmask.mirror import local_copies
from tests import ceph
from tests.faults import Proxy
from tests.service.http.colour_photos import MASK, encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from training.datasets import load

URL = f"s3://{ceph.BUCKET}/service-inbox"
PHOTO, ADMIN = encoded(), "an admin key of this test"


def test_what_two_services_acknowledge_is_there(s3: Proxy, colour_bundle: Path) -> None:
    with (
        serving(model=colour_bundle, inbox=URL, admin_keys=ADMIN) as first,
        serving(model=colour_bundle, inbox=URL, admin_keys=ADMIN) as second,
    ):
        for each in (first, second):
            each.headers["Authorization"] = f"Bearer {ADMIN}"

        def send(number: int) -> int:
            client, tags = (first, second)[number % 2], {"tags": f"tag-{number:02}"}
            return client.post("/v1/samples", files={"image": PHOTO}, data=tags).status_code

        s3.faults += [("PUT", "503"), ("GET", "cut"), ("PUT", "cut after")]
        with ThreadPoolExecutor(4) as threads:
            statuses = sorted(threads.map(send, range(12)))
        assert statuses == [200] * 11 + [201]
        tags = tuple(f"tag-{number:02}" for number in range(12))

        target, s3.target = s3.target, "127.0.0.1:9"  # nothing listens there
        lost = first.post("/v1/samples", files={"image": PHOTO}, data={"tags": "lost"})
        assert_problem(lost, 500, "inbox_unwritable")
        assert first.post("/v1/segment", files={"image": PHOTO}).status_code == 200
        s3.target = target

        (photo,) = load(URL).photos
        assert (photo.tags, photo.path.read_bytes()) == (tags, PHOTO)
        said = Correction.of(MASK, ["background", "cat", "dog"])
        with Client(str(second.base_url), api_key=ADMIN) as sender:
            assert sender.add_sample(PHOTO, ["dog"], said)["corrected"]
        assert [each.correction for each in load(URL, corrections=URL).photos] == [said]

        assert first.delete(f"/v1/samples/{photo.path.stem}").status_code == 200
        again = second.post("/v1/samples", files={"image": PHOTO}, data={"tags": "dog"})
        assert_problem(again, 422, "forgotten", "image")
        with local_copies([URL]) as (folder,):
            assert [path.name for path in folder.rglob("*") if path.is_file()] == [photo.path.stem]

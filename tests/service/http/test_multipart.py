import asyncio
import encodings
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.multipart import Part, read_parts
from tagmask.errors import BadRequest, TooLarge, Unprocessable, UnsupportedType

TYPE = "multipart/form-data; boundary=b"


def read(*parts: bytes, content_type: str = TYPE, max_files: int = 1, step: int = 1 << 20) -> list[Part]:
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    return asyncio.run(read_parts(content_type, chunks(), max_files))


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "utf-16", "latin-1", "no-such-codec", "hex"])
def test_text_is_utf_8_whatever_charset_is_declared(charset: str) -> None:
    cached = len(encodings._cache)  # type: ignore[attr-defined]
    head = 'name="Käfer"; filename="Äpfel.jpg"\r\nContent-Type: image/jpeg; charset='
    file, text = read(
        f"{head}{charset}\r\n\r\nx".encode(),
        f'name="tags"\r\nContent-Type: text/plain; charset={charset}\r\n\r\nKühe'.encode(),
        content_type=f"{TYPE}; charset={charset}",
    )
    assert (file.name, file.file_name, text.text()) == ("Käfer", "Äpfel.jpg", "Kühe")
    assert len(encodings._cache) == cached  # type: ignore[attr-defined]


def test_text_that_is_not_utf_8_names_its_field() -> None:
    (part,) = read(b'name="tags"\r\n\r\nK\xfche')
    with pytest.raises(Unprocessable, match="'tags' is not text in UTF-8") as refusal:
        part.text()
    assert refusal.value.field == "tags"


@pytest.mark.parametrize(
    ("head", "file_name"),
    [
        (b'name="image"; filename="a.jpg"', "a.jpg"),
        (b"name=\"image\"; filename*=UTF-8''%C3%A9.jpg", "é.jpg"),
        (b"name=image; FILENAME*=punycode'de'%C3%A9.jpg", "é.jpg"),
        (b'name="image"; filename="a.jpg"; filename*=UTF-8\'\'b.jpg', "a.jpg"),
        (b'name="image"\r\nContent-Type: image/jpeg', ""),
        (b'name="image"\r\nContent-Type: application/octet-stream', ""),
        (b'name="image"\r\nContent-Type: text/plain', None),
        (b'name="image"', None),
    ],
)
@pytest.mark.parametrize("size", [10, 100_000])
def test_what_makes_a_file(head: bytes, file_name: str | None, size: int) -> None:
    (part,) = read(head + b"\r\n\r\n" + b"x" * size)
    assert (part.file_name, part.truncated) == (file_name, file_name is None and size > 64_000)
    assert len(part.data) == (64_000 if part.truncated else size)


def test_text_beyond_the_limit_names_its_field() -> None:
    (part,) = read(b'name="tags"\r\n\r\n' + b"x" * 64_001)
    with pytest.raises(TooLarge, match="'tags' has more than 64,000 bytes") as refusal:
        part.text()
    assert (refusal.value.field, refusal.value.limit) == ("tags", 64_000)


@pytest.mark.parametrize("encoding", [b"base64", b"Quoted-Printable"])
def test_transfer_encodings_are_refused(encoding: bytes) -> None:
    head = b'name="image"; filename="a.jpg"\r\nContent-Transfer-Encoding: '
    with pytest.raises(UnsupportedType, match="Content-Transfer-Encoding"):
        read(head + encoding + b"\r\n\r\nAAAA")
    assert bytes(read(head + b"Binary\r\n\r\nAAAA")[0].data) == b"AAAA"


def test_too_many_parts() -> None:
    file, text, empty = (
        b'name="image"; filename="a"\r\n\r\nx',
        b'name="tags"\r\n\r\nx',
        b'name="image"; filename=""\r\n\r\n',
    )
    assert len(read(file, file, empty, max_files=2)) == 2
    for files in ([file] * 3, [file] * 10, [empty, file, file, file]):
        with pytest.raises(TooLarge, match="at most 2 photos"):
            read(*files, max_files=2)
    assert len(read(*[text] * 1016)) == 1016  # four fields for each of 254 classes
    with pytest.raises(TooLarge, match=r"^more than 1,016 text fields; separate names by commas"):
        read(*[text] * 1017)


@given(st.binary(max_size=200).filter(lambda data: b"\r\n--b" not in data), st.integers(1, 50))
def test_files_come_back_as_sent_in_pieces_of_any_size(data: bytes, step: int) -> None:
    (part,) = read(b'name="image"; filename="a"\r\n\r\n' + data, step=step)
    assert bytes(part.data) == data


@given(st.binary(max_size=300).filter(lambda body: b"--b" not in body))
def test_any_other_body_is_refused(body: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    with pytest.raises(BadRequest, match="broken multipart body"):
        asyncio.run(read_parts(TYPE, chunks(), 1))

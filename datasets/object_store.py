"""Object stores by address, `s3://bucket/path` or `gs://bucket/path`: file systems and their errors."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from datasets.download import shortened

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs")
OPTIONS = {"s3": ("endpoint_override", "scheme", "region"), "gs": ("endpoint_override", "scheme")}
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # of a server that took the connection
ATTEMPTS = 4  # of a request; the pauses between them grow to some seconds
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials or a role of the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or a role of the machine",
}
NO_BUCKET = ("NO_SUCH_BUCKET", "Bucket '", "bucket does not exist")
DENIED = (
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN", "UNRECOGNIZED_CLIENT", "HTTP status 401", "HTTP status 403", "Unauthorized",
    "UNAUTHENTICATED", "PERMISSION_DENIED", "Permission denied", "access token", "credentials",
)  # fmt: skip


def is_address(text: str) -> bool:
    """Whether it names a place in an object store, or in what its writer took for one, and not a path."""
    return "://" in text


@dataclass(frozen=True)
class Address:
    """What an address says: `path` is `bucket/path`, `options` what follows its '?'."""

    scheme: str
    path: str
    anonymous: bool
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """The last part of the path, as of a file or folder."""
        return self.path.rpartition("/")[2]


def parsed(text: str) -> Address:
    """Looks at the text alone.

    Raises:
        ValueError: it is not an address of an object store, or has keys in it.
    """
    scheme, _, rest = text.partition("://")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    user, at, bucket = authority.rpartition("@")
    if scheme not in SCHEMES or not bucket:
        raise ValueError(f"{text!r} is no address of an object store; write s3://BUCKET/PATH or gs://BUCKET/PATH")
    if at and (scheme, user) != ("gs", "anonymous"):
        raise ValueError(
            f"keys in an address of {bucket} are seen by all who see the study; instead set {KEYS[scheme]}"
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - {*OPTIONS[scheme]}):
        raise ValueError(f"{text!r} has {unknown[0]!r} after its '?'; that may be {', '.join(OPTIONS[scheme])}")
    return Address(scheme, f"{bucket}/{path}".strip("/"), bool(at), options)


def opened(address: str) -> tuple[FileSystem, str]:
    """The file system of an address and the path in it, `bucket/path`; one file system a store and process.

    Nothing is asked of the store but the region of a bucket of Amazon's, where the address does not tell it. A store
    elsewhere is named by the environment variable `AWS_ENDPOINT_URL`, or in the address: `?endpoint_override=HOST:PORT`
    with `&scheme=http` where it has no TLS.

    Raises:
        ValueError: the address is not one of an object store, or there is no such bucket.
        ConnectionError: its region could not be asked for.
    """
    known = parsed(address)
    endpoint, scheme = known.options.get("endpoint_override"), known.options.get("scheme")
    if known.scheme == "gs":
        return _google(known.anonymous, endpoint, scheme), known.path
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = known.options.get("region")
    if not endpoint and not region:
        with errors(address):
            region = _region(known.path.partition("/")[0])
    return _amazon(endpoint, scheme, region), known.path


@contextmanager
def errors(address: str) -> Iterator[None]:
    """Tells in one line what a store has against an address. The block should hold nothing that is not the store's.

    Raises:
        ValueError: there is no such bucket, or nothing at the address.
        ConnectionError: the store cannot be reached, or denies it.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"there is nothing at {address}; mend the address") from error
    except OSError as error:
        text = " ".join(str(error).split())
        said = _short(text)
        if any(mark in text for mark in NO_BUCKET):
            raise ValueError(f"there is no bucket of {address} ({said}); mend the address") from error
        if isinstance(error, PermissionError) or any(mark in text for mark in DENIED):
            keys = KEYS[address.partition("://")[0]]
            raise ConnectionError(f"{address} is denied ({said}); set {keys}, on every machine") from error
        raise ConnectionError(
            f"{address} cannot be reached ({said}); check the network, and where the store is neither Amazon's nor "
            "Google's its address, as in AWS_ENDPOINT_URL or ?endpoint_override=HOST:PORT"
        ) from error


def _short(text: str) -> str:
    """The error's own words: what Arrow did when it came, and the request's number, are left out."""
    return shortened(re.sub(r"^.*?AWS Error | \(Request ID: [^)]*\)", "", text))


@functools.cache
def _region(bucket: str) -> str:
    from pyarrow.fs import resolve_s3_region

    region: str = resolve_s3_region(bucket)
    return region


@functools.cache
def _amazon(endpoint: str | None, scheme: str | None, region: str | None) -> FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        region=region,
        allow_delayed_open=True,  # a small file takes one request, not three
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENCE_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


@functools.cache
def _google(anonymous: bool, endpoint: str | None, scheme: str | None) -> FileSystem:
    from pyarrow.fs import GcsFileSystem

    return GcsFileSystem(
        anonymous=anonymous,
        endpoint_override=endpoint,
        scheme=scheme,
        retry_time_limit=timedelta(seconds=SILENCE_SECONDS),
    )

"""The bucket, if it is not there yet: run by compose in the image, once, with the settings of Onetake."""

import time

from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from onetake.core.settings import load_settings

LIMIT_S = 60.0


def main() -> None:
    """Make it as soon as the store answers."""
    settings = load_settings()
    store = Minio(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
    )
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if not store.bucket_exists(bucket_name=settings.s3_bucket):
                store.make_bucket(bucket_name=settings.s3_bucket)
            print(f"the bucket {settings.s3_bucket} is there")
        except (HTTPError, S3Error):
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


if __name__ == "__main__":
    main()

"""What versitygw, the S3 server of the development stack, does differently from other stores; the one place that knows.

Nothing here harms another store.

*A body that breaks off.* It takes the orderly end of a connection for the end of the body and keeps what came. So
connections to a store end in a reset, also by our death (`RESET_ON_CLOSE`), and no body is sent as a plain put. It has
a checksum behind it, without which no object is made (`trailing`), or is the one part of a multipart upload.

*The word `aws-chunked`.* It hands it out with the object as its content encoding, so that it is not sent (`trailing`).

*Its words.* `CAUSES` are error codes that S3 does not have.
"""

import socket
import struct
from typing import Final

RESET_ON_CLOSE: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

CAUSES: Final = {"XAdminUserNotFound": "The credentials were refused."}

"""What versitygw, the S3 server of the development stack, does differently from other stores; the one place that knows.

Nothing here harms another store.

*A body that breaks off.* It takes the orderly end of a connection for the end of the body and keeps what came. So
connections to a store end in a reset, also by our death (`RESET_ON_CLOSE`), and a body of known length is sent as the
one part of a multipart upload, never as a plain put (`uploads.OnePart`): an upload that is not completed is no object.

*Its words.* `CAUSES` are error codes that S3 does not have.
"""

import socket
import struct
from typing import Final

RESET_ON_CLOSE: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

CAUSES: Final = {"XAdminUserNotFound": "The credentials were refused."}

"""What travels between a client and the workers that score: pickles whose rows are Arrow's."""

import io
import pickle

import pyarrow as pa


def pack(content) -> bytes:
    """Pickle content whose rows are Arrow's; plain pickle would keep all of a table that a part was cut from."""

    class Packer(pickle.Pickler):
        def reducer_override(self, held):
            if not isinstance(held, pa.RecordBatch | pa.Table):
                return NotImplemented
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, held.schema) as stream:
                stream.write(held)
            return _unpack_batch if isinstance(held, pa.RecordBatch) else _unpack_table, (sink.getvalue(),)

    sink = io.BytesIO()
    Packer(sink, protocol=5).dump(content)
    return sink.getvalue()


def _unpack_table(content: bytes):
    return pa.ipc.open_stream(content).read_all()


def _unpack_batch(content: bytes):
    return pa.ipc.open_stream(content).read_next_batch()

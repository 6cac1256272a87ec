"""What keys, rate and origins cost a request to /predict, in this process: python benchmarks/access.py

The steps are those of `modeler/service/front.py`, with a hundred keys, and with metrics and rate in files, as workers share
them. Each figure is processor time, the best of 7 times 50,000 requests.
"""

import os
import tempfile
import timeit
from pathlib import Path
from time import process_time

from modeler.service.access import Access, make_key
from modeler.service.telemetry import FOLDER, Metrics

REQUESTS, TIMES = 50_000, 7
RATE = 1_000_000  # a second; what is refused would be answered without the model


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        made, file, metrics = [make_key(f"client-{number}") for number in range(100)], Path(folder, "keys"), Metrics("a", "1")
        file.touch(0o600)
        file.write_text("\n".join(line for _, line in made))
        bearer = b"Bearer " + made[-1][0].encode()
        headers = {b"host": b"a", b"accept": b"*/*", b"content-type": b"application/json", b"authorization": bearer}
        origins, shared = ["https://shop.example.org"], {"shared": folder}
        cases = {
            "nothing": Access(),
            "keys": Access(file),
            "rate": Access(rate=RATE, **shared),
            "keys, rate": Access(file, RATE, **shared),
            "keys, rate, origins": Access(file, RATE, origins, **shared),
        }
        print("microseconds a request   admit   count")
        for name, access in cases.items():
            admit, count = time_request(access, headers, metrics)
            print(f"{name:24}{admit:6.2f}  {count:6.2f}", flush=True)


def time_request(access: Access, headers: dict[bytes, bytes], metrics: Metrics) -> tuple[float, float]:
    """Microseconds to admit a request and mark its answer, and those to count it by its key too."""
    scope = {"type": "http", "method": "POST", "client": ("10.0.0.1", 50_000)}

    def admit():
        access.answer_preflight(scope, headers)
        access.admit(scope, headers)
        access.name_origin(headers)

    admit()
    caller = scope.get("caller")
    counted = [
        find_best(lambda name=name: metrics.count_request("/predict", 200, 0.001, name)) for name in (caller, None)
    ]
    return find_best(admit), counted[0] - counted[1] if access.file else 0.0


def find_best(step) -> float:
    return min(timeit.repeat(step, timer=process_time, number=REQUESTS, repeat=TIMES)) / REQUESTS * 1e6


if __name__ == "__main__":
    main()

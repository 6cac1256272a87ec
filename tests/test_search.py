"""The search of train.ipynb: the same settings, scores and graph on one core, on all, and on a cluster of Dask."""

import asyncio
import socket
import sys
from contextlib import ExitStack

import pytest
from cells import make_mixed, run_cells
from clusters import start_scheduler, start_worker
from joblib.externals.loky import get_reusable_executor

from modeler import ModelerError
from modeler.cluster import join_cluster
from modeler.data.derive import derive_contract
from modeler.data.tables import load_table
from modeler.model.contract import write_json


@pytest.fixture
def address(tmp_path):
    """A scheduler and one worker that have nothing of this project."""
    with ExitStack() as stack:
        address = start_scheduler(stack, tmp_path / "dask")
        stack.enter_context(start_worker(address, tmp_path / "dask" / "worker"))
        yield address


@pytest.mark.slow
def test_settings_scores_and_graph_are_the_same_wherever_the_search_runs(tmp_path, monkeypatch, capsys, address):
    monkeypatch.chdir(tmp_path)
    make_mixed("two").to_parquet("mixed.parquet")
    table = load_table("mixed.parquet", "y")
    write_json(tmp_path / "contract.json", derive_contract(table, table.frame, min_association=0, holdout=0.2))
    told = {"data": "mixed.parquet", "estimator": "gradient_boosting", "n_estimators": 5, "tuning_iterations": 6, "out": "."}

    def add_column(source: str) -> str:  # its class comes with this package, which the worker has not got
        return source.replace("own_columns = {}", 'own_columns = {"double": lambda c: 2 * c["size (cm)"]}')

    found = {}
    for way, (cores, cluster) in {"one": ("1", ""), "all": ("2", ""), "elsewhere": ("1", address)}.items():
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", cores)
        capsys.readouterr()
        names = run_cells(told | {"cluster": cluster}, "graph = Graph(model, contract)", add_column)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tuning ")]
        found[way] = lines, names["settled"], names["cv"]["mean"], names["cv"]["std"], names["model"]
        get_reusable_executor().shutdown()
    assert type(names["search"]._backend).__name__ == "DaskDistributedBackend"  # of the last way
    lines, settled, mean, std, _ = found["one"]
    assert len(lines) == 6 and lines[5].startswith("tuning 6 of 6: ") and settled
    assert f"best so far {mean:.4f}" in lines[5] and 0 < std < mean
    assert mean > names["scores"][names["chosen"]].mean()  # what a sweep ranks by is what the search found
    assert found["all"] == found["one"] and found["elsewhere"] == found["one"]


@pytest.mark.medium
def test_cluster_is_joined_where_an_event_loop_runs_already_and_left_as_it_was():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{closed.getsockname()[1]}"

    async def join():  # as in a notebook's kernel
        with join_cluster(nobody):
            pass

    with pytest.raises(ModelerError, match=f"--cluster {nobody}: no Dask scheduler answers there"):
        asyncio.run(join())


def test_search_without_a_cluster_needs_no_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with join_cluster(""):
        pass

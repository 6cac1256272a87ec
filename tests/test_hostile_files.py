"""Files that somebody made to do harm: each is one sentence soon, or the text that it holds, and never more than that."""

import ast
import csv
import io
import json
import os
import re
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from papermill.translators import PythonTranslator

import pipeline
from modeler import ModelerError, UsageError
from modeler.commands.options import escape_controls, print_result
from modeler.commands.progress import Progress
from modeler.commands.sampling import sample_data
from modeler.compare.sides import _find_side
from modeler.data import CsvFormat, limits, load_table, reading
from modeler.data.sample import take_sample
from modeler.model import contract as contracts
from modeler.model import stored
from modeler.model.graph import Graph
from modeler.model.stored import StoredModel, check_content, content_version, find_model
from modeler.monitor.labels import _read_texts
from modeler.runs.execute import execute_notebook, export_html
from modeler.runs.parameters import read_parameters
from modeler.runs.provenance import hash_data
from modeler.score import source as scored
from modeler.score.places import find_place, list_files
from modeler.score.scorer import write_rows
from modeler.service.body import RequestError
from modeler.service.predictor import Predictor

READERS = {
    "retrain": lambda path, _: load_table(str(path), "y"),
    "sample": lambda path, folder: take_sample(path, 10, "", CsvFormat(), folder / "samples"),
    "labels": lambda path, _: _read_texts(path),
}
MARKUP, MOVE = "<script>alert(1)</script>", "\x1b[2J\x1b]0;owned\x07"


# --- data


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([*"abcdefghi", "y"], "has 10 columns or more; a table may have 9. Leave out columns"),
        (["a" * 41, "y"], "the name of column 1 of .* has 41 characters or more, 'aaa.*'; shorten it to 40, or close its quotes"),
    ],
)
def test_header_beyond_the_limits_is_one_sentence(tmp_path, monkeypatch, reader, names, sentence):
    monkeypatch.setattr(limits, "MOST_COLUMNS", 9)
    monkeypatch.setattr(limits, "LONGEST_NAME", 40)
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" * len(names)) + "\n")
    pq.write_table(pa.table({name: [1, 2] for name in names}), tmp_path / "t.parquet")
    for path in (tmp_path / "t.csv", tmp_path / "t.parquet")[: 1 if reader == "labels" else 2]:
        with pytest.raises(ModelerError, match=sentence) as error:
            READERS[reader](path, tmp_path)
        assert "\n" not in str(error.value)


def test_scored_parquet_of_too_many_columns_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST_COLUMNS", 9)
    monkeypatch.setattr(scored, "FEW_COLUMNS", 9)
    pq.write_table(pa.table({f"c{n}": [1] for n in range(10)}), path := tmp_path / "t.parquet")
    with pytest.raises(ModelerError, match="has 10 columns or more"):
        scored.open_parquet(find_place(str(path)), [str(path)])


def test_line_without_an_end_is_read_no_further_than_a_header_may_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "HEADER", 1 << 19)
    (tmp_path / "t.csv").write_bytes(b"a," * (1 << 20))
    with pytest.raises(ModelerError, match=r"has 262,145 columns or more"):
        load_table(str(tmp_path / "t.csv"), "y")


def test_quote_that_never_closes_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 1 << 18)
    (tmp_path / "t.csv").write_bytes(b"a,y\n" + b"1,0\n2,1\n" * 40_000 + b'"' + b"x,1\n" * 200_000)
    with pytest.raises(ModelerError, match="a row is longer than 0 MB, as where a quote is never closed; mend the file"):
        load_table(str(tmp_path / "t.csv"), "y")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_pipe_or_device_is_not_waited_for(tmp_path, make, ending):
    make(path := tmp_path / f"t{ending}")
    assert hash_data(path) is None
    with pytest.raises(ModelerError, match="is a pipe or a device; save what comes out of it as a .csv or .parquet file"):
        load_table(str(path), "y")
    with pytest.raises(ModelerError, match="is a pipe or a device; save"):
        list_files(find_place(str(path)))
    with pytest.raises(UsageError, match="is no .csv or .parquet file and no folder"):
        sample_data(SimpleNamespace(sample="10", data=str(path)), tmp_path, Progress())


@pytest.mark.medium
@pytest.mark.parametrize("typed", [True, False])  # a column that is a dictionary, and one of texts that the file holds as such
def test_few_bytes_of_parquet_that_stand_for_many_are_refused(tmp_path, monkeypatch, typed):
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1500, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"a": texts, "y": [0, 1, 1] * 500}), path := tmp_path / "t.parquet", compression="zstd", store_schema=typed)
    assert path.stat().st_size < 2000
    monkeypatch.setattr(limits, "OWN_NEED", 0)
    monkeypatch.setattr(limits, "_find_free", lambda: 3e8)
    told = "a retrain on it needs about 16 GB" if typed else "the cells of .* do not fit into the 0.3 GB of memory that are free"
    with pytest.raises(ModelerError, match=told):
        load_table(str(path), "y")


# --- what people see


@given(st.text(st.characters(max_codepoint=0x2100) | st.sampled_from("\x1b\x9b\r\u202e\u2066")))
def test_no_text_moves_the_terminal_and_json_stays_what_it_was(text):
    shown = escape_controls(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert json.loads(escape_controls(json.dumps([text], ensure_ascii=False))) == [text]


def test_names_of_a_strangers_columns_are_shown_and_not_obeyed(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(f"{MOVE}\u202e,y\n1,2\n", "utf-8")
    assert pipeline.main(["--data", str(tmp_path / "t.csv"), "--target", "z"]) == 1
    Progress().say(MOVE)
    print_result(MOVE)
    told = "".join(capsys.readouterr())
    assert not set(told) & set("\x1b\x07\u202e") and told.count("\\u001b[2J\\u001b]0;owned\\u0007") == 3


@pytest.mark.medium
def test_page_of_a_notebook_shows_hostile_names_and_texts_as_texts(tmp_path):
    names = [MARKUP, "<img src=x onerror=alert(1)>", MOVE, "a\nb", "__proto__", "../../x", "$\\frac{$", "w" * 900, "=1+1"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, len(names))).round(3), columns=names)
    frame["text"] = np.where(rng.random(80) > 0.5, MARKUP, MOVE)
    frame["y"] = np.where(frame[MARKUP] + frame["a\nb"] > 0, "<b>yes</b>", "no")
    frame.to_csv(tmp_path / "t.csv", index=False)
    notebook = ROOT / "notebooks" / "eda.ipynb"
    told = {name: parameter.default for name, parameter in read_parameters(notebook).items()}
    executed = execute_notebook(notebook, tmp_path, told | {"data": "t.csv", "target": "y", "out": "."}, ["contract.json"], lambda *_: None)
    export_html(executed.path)
    page = executed.path.with_suffix(".html").read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search("<script>alert|<img src=x|<b>yes", page)
    assert names == [feature["name"] for feature in contracts.read_json(tmp_path / "contract.json")["features"]][: len(names)]


# --- texts on their way through


@given(st.lists(st.tuples(st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "=cmd|'/c calc'!A0", "-1.5"]), st.text(st.characters(exclude_categories=["Cs"])))))
def test_scored_csv_holds_every_text_as_it_was_formulas_too(pairs):
    texts = ["".join(pair) for pair in pairs]
    written = write_rows(pa.table({"=id": pa.array(texts, pa.string()), "n": pa.array([-1.5] * len(texts), pa.float64())}), header=True)
    head, *rows = csv.reader(io.StringIO(written.decode(), newline=""))
    assert head == ["=id", "n"] and rows == [[text, "-1.5"] for text in texts]


@pytest.mark.medium
@settings(max_examples=300)
@given(st.text() | st.sampled_from(['"; import os; os._exit(1) #', "'''", '\\"\n"""', "\\", "{os}"]))
def test_parameter_never_becomes_code(text):
    (statement,) = ast.parse(PythonTranslator.codify({"estimator": text})).body
    assert ast.literal_eval(statement.value) == text


# --- a model from a stranger


@pytest.fixture
def model(tmp_path):
    """What may stand in the folder of a model, and a file outside of it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "contract.json").write_text("{}")
    (tmp_path / "secret").write_text('{"labels": {"secret": 1}}')
    return StoredModel(f"made:{content_version(folder)}", folder)


def open_page(model, name):
    predictor = Predictor.__new__(Predictor)
    predictor.tag, predictor._model = model.tag, model
    return predictor.read_page(name)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.parent.parent / "secret"), os.mkfifo, lambda path: path.mkdir()])
def test_model_whose_files_are_links_pipes_or_folders_is_not_read(model, make):
    for name in ("eda.html", "golden.json", "model.yaml"):
        make(model.path / name)
    with pytest.raises(RequestError, match="has no readable eda.html"):
        open_page(model, "eda")
    with pytest.raises(ModelerError, match="has no readable golden.json; remove it with"):
        model.read("golden.json")
    assert model.labels == {}
    for name in ("contract.json", "model.onnx"):
        (model.path / name).unlink()
        make(model.path / name)
        with pytest.raises(ModelerError, match=f"lacks {name} and is damaged"):
            check_content(model)
        with pytest.raises(ModelerError, match="the graph cannot be loaded"):
            Graph(model.path / name, {"features": []})


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "{}" + " " * 2001, '{"a": ' + "9" * 5000 + "}", '{"a": NaN}'])
def test_json_of_a_model_that_is_deep_long_or_no_number_is_one_sentence(model, monkeypatch, content):
    for module in (contracts, stored):
        monkeypatch.setattr(module, "LARGEST", 1_000_000 if len(content) > 3000 else 2000)
    (model.path / "metrics.json").write_text(content)
    with pytest.raises(ModelerError, match="has no readable metrics.json; remove it with `bentoml models delete"):
        model.read("metrics.json")


def test_yaml_of_a_model_makes_no_objects(model):
    (model.path / "model.yaml").write_text("labels: !!python/object/apply:os.mkdir [owned]\n")
    assert model.labels == {} and not os.path.exists("owned")


@pytest.mark.parametrize("content", ["labels: !!python/object/apply:os.mkdir [owned]", "name: made", "name: made\nversion: a\nlabels: 3"])
def test_model_that_bentoml_cannot_read_is_one_sentence(tmp_path, content):
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models.model import ModelStore

    folder = tmp_path / "models" / "made" / "a"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(content)
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "models"))
    try:
        with pytest.raises(ModelerError, match="made:a has a model.yaml that cannot be read; remove it with"):
            find_model("made:a")
    finally:
        BentoMLContainer.model_store.reset()


def test_label_leads_a_comparison_to_no_folder_but_runs(model, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("modeler.compare.sides.find_model", lambda name: model)
    for run, found in (("../model", "none"), ("/etc", "none"), ("20261126-101010-7", "20261126-101010-7")):
        (model.path / "model.yaml").write_text(json.dumps({"labels": {"run": run}}))
        assert _find_side("made", tmp_path / "runs")[2] == tmp_path / "runs" / found


def write_graph(nodes, weights=(), domains=()):
    """A graph from one number to one number."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], list(weights))
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize("location", ["weights", "./weights", "../secret", "/etc/passwd"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_graph_with_numbers_outside_of_itself_is_refused(model, monkeypatch, location, as_bytes):
    monkeypatch.chdir(model.path)
    for path in (model.path / "weights", model.path.parent / "secret"):
        path.write_bytes(np.ones(1, "float32").tobytes())
    weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    graph = write_graph([helper.make_node("Add", ["x", "w"], ["y"])], [weight])
    (model.path / "model.onnx").write_bytes(graph)
    with pytest.raises(ModelerError, match="the graph cannot be loaded: .*External data path"):
        Graph(graph if as_bytes else model.path / "model.onnx", {"features": []})


def test_graph_with_an_operator_of_somebody_else_is_refused():
    with pytest.raises(ModelerError, match="the graph cannot be loaded: .*evil:Run.* is not a registered"):
        Graph(write_graph([helper.make_node("Run", ["x"], ["y"], domain="evil")], domains=["evil"]), {"features": []})

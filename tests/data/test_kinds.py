"""What columns mean: on small examples with a known answer, and on the public tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from modelworks.core.errors import DataError
from modelworks.core.schema import ColumnKind, Schema
from modelworks.data.kinds import infer_schema
from modelworks.data.lexicons import natural_order
from modelworks.data.overrides import with_kinds

K = ColumnKind


def _kind(cells: list[object], name: str = "x", encode: bool = True) -> ColumnKind:
    array = pa.array(cells)
    if encode and pa.types.is_string(array.type):
        array = array.dictionary_encode()
    return infer_schema(pa.table({name: array}))[name].kind


@pytest.mark.parametrize(
    ("cells", "name", "kind"),
    [
        ([1.5, 2.5, 3.5] * 10, "x", K.NUMBER),
        ([0, 1] * 10, "x", K.BOOLEAN),
        ([1, 2] * 10, "x", K.INTEGER_CATEGORY),
        ([3, 7, 9] * 10, "x", K.INTEGER_CATEGORY),
        (list(range(100)), "x", K.IDENTIFIER),
        ([index * 37 % 1009 for index in range(100)], "x", K.NUMBER),
        ([index * 37 % 1009 for index in range(100)], "customer_id", K.IDENTIFIER),
        ([10_000 + index % 50 for index in range(1000)], "zip", K.INTEGER_CATEGORY),
        ([10_000 + index % 50 for index in range(1000)], "amount", K.NUMBER),
        (["yes", "no"] * 10, "x", K.BOOLEAN),
        (["T", "F"] * 10, "x", K.BOOLEAN),
        (["male", "female"] * 10, "x", K.CATEGORY),
        (["low", "high", "medium"] * 10, "x", K.ORDERED),
        (["XL", "S", "M", "L"] * 10, "x", K.ORDERED),
        (["18-24", "25-34", "35-44", "45+"] * 10, "x", K.ORDERED),
        (["Grade 1", "Grade 10", "Grade 2"] * 10, "x", K.ORDERED),
        (["a", "b", "c", "d"] * 10, "x", K.CATEGORY),
        ([f"{index:08x}-{index * 7:04x}" for index in range(100)], "x", K.IDENTIFIER),
        ([f"image_{index:05d}.jpg" for index in range(100)], "x", K.IDENTIFIER),
        ([f"Smith, Mr. John {index}" for index in range(100)], "Name", K.IDENTIFIER),
        ([f"the {index} parcel never came and nobody answers" for index in range(100)], "x", K.TEXT),
        ([f"这家店的第{index}份外卖很好吃下次还来" for index in range(100)], "x", K.TEXT),
        (["same"] * 50, "x", K.CONSTANT),
        (["reason", None] * 50, "x", K.CATEGORY),
        ([None] * 50, "x", K.CONSTANT),
        ([True, False, None] * 10, "x", K.BOOLEAN),
    ],
)
def test_kind_of_a_column(cells: list[object], name: str, kind: ColumnKind) -> None:
    assert _kind(cells, name) is kind


def test_every_kind_has_a_reason(read) -> None:
    text = "a,b,c,d\n" + "".join(f"{index},{index / 3},x{index % 4},same\n" for index in range(80))
    _, schema, _ = read(text)
    assert all(column.reason for column in schema.columns)


def test_orders() -> None:
    assert natural_order(["High", "low", "Medium"])[0] == ["low", "Medium", "High"]
    assert natural_order(["60+", "<18", "18-59"])[0] == ["<18", "18-59", "60+"]
    assert natural_order(["Dec", "Jan", "Sept"])[0] == ["Jan", "Sept", "Dec"]
    assert natural_order(["Doctorate", "HS-grad", "7th-8th"])[0] == ["7th-8th", "HS-grad", "Doctorate"]
    assert natural_order(["red", "green", "blue"]) is None
    assert natural_order(["A11", "A12", "A13"]) is None
    assert natural_order(["1", "2", "3"]) is None


def test_kinds_set_by_the_user(read) -> None:
    text = "code,word,day\n" + "".join(
        f"{index % 40},{'abc'[index % 3]},2024-01-{index % 28 + 1:02d}\n" for index in range(90)
    )
    table, schema, _ = read(text, kinds={"code": "category", "day": "text"})
    assert schema["code"].kind is K.CATEGORY
    assert schema["code"].levels[:3] == ("0", "1", "2")
    assert schema["day"].kind is K.TEXT
    for name, kind in (("word", "number"), ("word", "datetime"), ("word", "boolean")):
        with pytest.raises(DataError) as caught:
            with_kinds(table, schema, {name: kind})
        assert caught.value.error_code == "MW1106"
    with pytest.raises(DataError, match="Did you mean 'word'"):
        with_kinds(table, schema, {"wort": "category"})
    with pytest.raises(DataError, match="no kind 'categorie'"):
        with_kinds(table, schema, {"word": "categorie"})


def _kinds(schema: Schema) -> dict[str, str]:
    return {column.name: column.kind.value for column in schema.columns}


def test_titanic_telco_and_311(read, shared_data: Path) -> None:
    _, schema, _ = read(shared_data / "titanic/titanic.csv")
    assert _kinds(schema) == {
        "survived": "boolean", "pclass": "integer_category", "sex": "category", "age": "number",
        "sibsp": "integer_category", "parch": "integer_category", "fare": "number", "embarked": "category",
        "class": "ordered", "who": "category", "adult_male": "boolean", "deck": "category",
        "embark_town": "category", "alive": "boolean", "alone": "boolean",
    }  # fmt: skip
    assert schema["class"].levels == ("First", "Second", "Third")
    _, schema, _ = read(shared_data / "telco_churn/Telco-Customer-Churn.csv")
    assert schema["customerID"].kind is K.IDENTIFIER
    assert schema["TotalCharges"].kind is K.NUMBER
    assert schema["TotalCharges"].missing == 11
    assert schema["Churn"].levels == ("No", "Yes")
    _, schema, _ = read(shared_data / "nyc311_animals/311_Animals_short.csv.gz")
    kinds = _kinds(schema)
    assert kinds["Unique Key"] == "identifier"
    assert kinds["Created Date"] == kinds["Closed Date"] == "datetime"
    assert kinds["Incident Zip"] == "integer_category"
    assert kinds["Facility Type"] == kinds["Park Facility Name"] == "constant"
    assert kinds["Latitude"] == "number"


@pytest.mark.parametrize(
    ("file", "rows", "names", "expected"),
    [
        ("abalone/abalone.csv", 4177, ("c0", "c8"), {"c0": "category", "c8": "number"}),
        ("adult/adult-train.csv.gz", 32561, ("c0", "c14"), {"c3": "ordered", "c1": "category", "c0": "number"}),
        ("german_credit/german.csv", 1000, ("c0", "c20"), {"c0": "category", "c4": "number"}),
        ("horse_colic/horse-colic.csv", 300, ("c0", "c27"), {"c3": "number", "c24": "category"}),
        ("cardio_train/cardio_train.csv.gz", 70000, ("id", "cardio"), {"id": "identifier", "cardio": "boolean"}),
        ("cmapss_fd001/train_FD001.txt.gz", 20631, ("c0", "c25"), {"c4": "constant", "c1": "number"}),
        ("cmapss_fd001/test_FD001.txt.gz", 13096, ("c0", "c25"), {"c1": "number"}),
        ("online_shoppers/online_shoppers_intention.csv.gz", 12330, ("Administrative", "Revenue"),
         {"Month": "ordered", "Revenue": "boolean", "VisitorType": "category"}),
        ("beijing_pm25/pollution.csv.gz", 43824, ("No", "Ir"), {"No": "identifier", "pm2.5": "number"}),
        ("sms_spam/sms.tsv", 5574, ("c0", "c1"), {"c0": "category", "c1": "text"}),
        ("zh_waimai_10k/waimai_10k.csv", 11987, ("label", "review"), {"label": "boolean", "review": "text"}),
        ("airline_tweets/TwitterUSAirlineSentiment.csv.gz", 14640, ("airline_sentiment", "tweet_created"),
         {"text": "text", "tweet_created": "datetime", "airline": "category"}),
        ("diamonds/diamonds.csv.gz", 53940, ("carat", "z"), {"cut": "ordered", "price": "number"}),
        ("los_loop_traffic/los_speed.csv.gz", 2016, ("773869", "769373"), {"773869": "number"}),
        ("skab_valve1/valve1/1.csv.gz", 1145, ("datetime", "changepoint"), {"datetime": "datetime"}),
        ("mushroom/mushroom.tsv.gz", 8145, ("cap-shape", "target"), {"odor": "integer_category"}),
    ],
)  # fmt: skip
def test_public_tables(
    read, shared_data: Path, file: str, rows: int, names: tuple[str, str], expected: dict[str, str]
) -> None:
    _, schema, report = read(shared_data / file)
    assert schema.rows == rows
    assert report["quarantined"] == 0
    assert (schema.names[0], schema.names[-1]) == names
    assert {name: schema[name].kind.value for name in expected} == expected

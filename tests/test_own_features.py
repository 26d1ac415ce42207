import numpy as np
import pandas as pd
import pytest
from tiny_run import TINY, settings

import train_model
from core.errors import InputError
from data.audit.audit import audit_market
from data.audit.own_features import check_own_features
from data.bars.synthetic import persistent_drift
from data.features import own as module
from data.features.own import known_features, load_features
from data.features.settings import FeatureSettings, settings_of
from data.market.market import build_market
from data.market.settings import MarketSettings
from xlstm_classifier import XLSTMClassifier, feature

GOOD = """
import numpy as np
from xlstm_classifier import feature

@feature
def gap(bars):
    return bars["open"] / bars["close"].shift(1) - 1

def not_marked(bars):
    return 1 / 0

@feature("range_mean", "range_last", past_bars=200)
def ranges(bars):
    span = np.log(bars["high"] / bars["low"])
    return {"range_last": span, "range_mean": span.rolling(180).mean()}
"""


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(module, "_loaded", {})


@pytest.fixture(scope="module")
def bars():
    return persistent_drift(num_symbols=2, num_bars=500, seed=1)


def written(tmp_path, text=GOOD, name="my_features.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


def of_one(body, tmp_path, mark="@feature"):
    text = f"from xlstm_classifier import feature\nimport numpy as np\n\n{mark}\ndef mine(bars):\n"
    return load_features(written(tmp_path, text + "".join(f"    {s}\n" for s in body.split("; "))))


def market_settings(own):
    return MarketSettings(
        sequence_length=12,
        future_window=3,
        label_method="volatility",
        price_change_threshold=0.01,
        target_class_ratios=(1, 1, 1),
        embargo_bars=3,
        max_gap_bars=5,
        features=FeatureSettings(own=own),
    )


def test_a_file_gives_its_marked_functions_in_their_order(tmp_path):
    own = load_features(written(tmp_path))
    assert own.names == ("gap", "range_mean", "range_last") and own.past_bars == 200
    assert [one.past_bars for one in own.features] == [150, 200]
    features = FeatureSettings(own=own)
    assert features.own_names(intraday=True)[-3:] == own.names and features.warm_up_bars == 200
    assert load_features(written(tmp_path)) is own


def test_a_row_has_the_value_of_the_function_by_hand(tmp_path, bars):
    market = build_market(bars, market_settings(load_features(written(tmp_path))))
    assert market.feature_names[-3:] == ("gap", "range_mean", "range_last")
    first = bars[bars["symbol"] == bars["symbol"].iloc[0]]
    expected = (first["open"] / first["close"].shift(1) - 1).to_numpy()[200:]
    span = np.log(first["high"] / first["low"])
    rows = market.symbols == 0
    np.testing.assert_allclose(market.features[rows, -3], expected, rtol=1e-5, atol=1e-9)
    means = span.rolling(180).mean().to_numpy()[200:]
    np.testing.assert_allclose(market.features[rows, -2], means, rtol=1e-5)
    np.testing.assert_allclose(market.features[rows, -1], span.to_numpy()[200:], rtol=1e-5)


def test_what_is_not_known_is_neutral_and_nothing_is_too_large(tmp_path, bars):
    own = of_one(
        "x = bars['close'] * 1e300 * 1e10; x[3] = np.nan; return x.where(x.index != 4, 1e99)",
        tmp_path,
    )
    values = own.features[0].compute(bars[:10])[:, 0]
    assert np.isfinite(values).all() and values[3] == values[0] == 0 < values[4]


def test_the_bars_of_whoever_calls_are_left_as_they_are(tmp_path, bars):
    before = bars.copy()
    own = of_one("bars['close'] = 0.0; bars.loc[:, 'open'] = 1.0; return bars['close']", tmp_path)
    own.features[0].compute(bars)
    pd.testing.assert_frame_equal(bars, before)


def test_honest_features_pass_the_audit(tmp_path, bars):
    own = load_features(written(tmp_path))
    check_own_features(bars, own)
    assert audit_market(bars, market_settings(own), num_cuts=2) == []


AHEAD = {
    "the next bar": "return bars['close'].shift(-1)",
    "the mean of all": "return bars['close'] / bars['close'].mean()",
    "the rank among all": "return bars['volume'].rank(pct=True)",
    "a centred mean": "return bars['close'].rolling(5, center=True).mean()",
    "the day's high": "return bars['high'].groupby(bars['timestamp'].dt.date).transform('max')",
    "filled from behind": "return bars['close'].where(bars.index % 2 == 0).bfill()",
    "the last bar": "return bars['close'] - bars['close'].iloc[-1]",
    "a smooth spectrum": "f = np.fft.rfft(bars['close']); f[20:] = 0; "
    "return np.fft.irfft(f, len(bars))",
}


@pytest.mark.parametrize("way", AHEAD)
def test_a_feature_that_looks_ahead_is_refused_by_name(way, tmp_path, bars):
    own = of_one(AHEAD[way], tmp_path)
    with pytest.raises(InputError, match=r"^the feature mine \(mine\) at .*: it looks ahead$"):
        check_own_features(bars, own)


FAR_BACK = {
    "a count": "return np.arange(len(bars))",
    "a running mean": "return bars['close'].expanding().mean()",
    "a long mean": "return bars['close'].rolling(170).mean()",
    "since the first": "return bars['close'] / bars['close'].iloc[0]",
}


@pytest.mark.parametrize("way", FAR_BACK)
def test_a_feature_of_more_of_the_past_than_it_says_is_refused(way, tmp_path, bars):
    with pytest.raises(InputError, match="mine.*depends on more than the 150 bars before"):
        check_own_features(bars, of_one(FAR_BACK[way], tmp_path))


def test_an_average_that_forgets_passes(tmp_path, bars):
    check_own_features(bars, of_one("return bars['close'].ewm(span=20).mean()", tmp_path))


FAULTY = {
    "syntax": ("def f(:", "SyntaxError"),
    "its own error": ("raise KeyError('x')", "KeyError"),
    "nothing marked": ("x = 1", "it marks no function with @feature"),
    "one name twice": (
        "from xlstm_classifier import feature\n@feature('a')\ndef f(b): ...\n"
        "@feature('a')\ndef g(b): ...",
        "two columns are called a",
    ),
    "no name": (
        "from xlstm_classifier import feature\n@feature('')\ndef f(b): ...",
        "the columns of f must be names",
    ),
    "no past": (
        "from xlstm_classifier import feature\n@feature(past_bars=-1)\ndef f(b): ...",
        "past_bars of f must be 0 to 100,000",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_file_that_cannot_be_used_is_told_in_one_line(fault, tmp_path):
    text, words = FAULTY[fault]
    with pytest.raises(InputError) as error:
        load_features(written(tmp_path, text))
    (line,) = error.value.faults
    assert "my_features.py cannot be used: " in line and words in line


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be used: No such file"):
        load_features(tmp_path / "none.py")


def test_the_name_of_another_feature_is_refused(tmp_path):
    own = of_one("return bars['close']", tmp_path, mark="@feature('rsi')")
    with pytest.raises(InputError, match="two features would be called rsi"):
        FeatureSettings(own=own)


WRONG = {
    "too few": "return bars['close'][1:]",
    "an error": "return bars['funding']",
    "a text": "return ['a'] * len(bars)",
    "another name": "return {'yours': bars['close']}",
    "nothing": "return None",
    "a table": "return np.zeros((len(bars), 2))",
}


@pytest.mark.parametrize("way", WRONG)
def test_a_function_that_gives_something_else_is_told_by_name(way, tmp_path, bars):
    with pytest.raises(InputError) as error:
        of_one(WRONG[way], tmp_path).features[0].compute(bars)
    (line,) = error.value.faults
    assert line.startswith("the feature mine ")


def test_a_model_keeps_name_and_digest_and_asks_for_the_file(tmp_path):
    own = load_features(written(tmp_path))
    contract = {"features": FeatureSettings(own=own).as_dict()}
    assert contract["features"]["own"]["columns"]["gap"] == ["gap"]
    assert GOOD not in str(contract)
    assert settings_of(contract).own is own
    module._loaded.clear()
    with pytest.raises(InputError, match=r"gap, ranges\): give their file my_features.py with"):
        settings_of(contract)
    load_features(written(tmp_path, GOOD + "# changed"))
    with pytest.raises(InputError, match="my_features.py is not the file that the model was"):
        settings_of(contract)
    load_features(written(tmp_path, name="moved.py"))  # the text counts, not the name
    assert settings_of(contract).names(intraday=True)[-3:] == own.names


@pytest.mark.parametrize(
    "stored", [3, {}, {"file": "x", "sha256": 1, "columns": {}}, {"file": "x"}]
)
def test_a_contract_that_tells_them_otherwise_is_refused(stored):
    with pytest.raises(InputError, match="own features are not described"):
        known_features(stored)


def test_settings_without_own_features_are_written_as_before():
    assert "own" not in FeatureSettings().as_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:inputs fall outside")
def test_a_run_with_own_features_keeps_to_its_file(tmp_path, bars_file, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path)
    flags = settings(OWN_FEATURES="my_features.py", SUPERVISED_EPOCHS=1, STEPS_PER_EPOCH=2)
    train = ["train", "--brief", "--data", str(bars_file), "--out", "run", *flags]
    assert train_model.main(train) == 0
    predict = ["predict", "run/model.keras", "--data", str(bars_file), "--out", "table.csv"]
    module._loaded.clear()
    capsys.readouterr()
    assert train_model.main(predict) == 2
    assert "give their file my_features.py with --features FILE" in capsys.readouterr().err
    assert train_model.main([*predict, "--features", str(path)]) == 0
    module._loaded.clear()
    loaded = XLSTMClassifier.load("run", features=path)
    table = pd.read_csv("table.csv")
    np.testing.assert_allclose(loaded.predict(bars_file)["p_buy"], table["p_buy"], rtol=1e-5)
    newest = loaded.predict(bars_file, newest_only=True)
    last = table.groupby("symbol")["p_buy"].last()
    np.testing.assert_allclose(newest.set_index("symbol")["p_buy"].sort_index(), last, rtol=1e-4)
    path.write_text(GOOD.replace(".shift(1)", ".shift(2)"))
    (tmp_path / "run" / "metrics.json").unlink()
    assert train_model.main(["resume", "run"]) == 2
    assert "features_sha256 was" in capsys.readouterr().err
    path.write_text(GOOD.replace(".shift(1)", ".shift(-1)"))
    assert train_model.main([*train[: -len(flags) - 1], "other", *flags]) == 2
    assert capsys.readouterr().err.strip().endswith("it looks ahead")
    assert not (tmp_path / "other").exists()


def test_the_mark_leaves_the_function_as_it_is():
    @feature
    def mine(bars):
        return bars

    assert mine(3) == 3 and TINY

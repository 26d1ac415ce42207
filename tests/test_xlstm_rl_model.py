import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from models.calibration import RestoreProbabilities
from models.deployable import make_deployable, save_model
from models.xlstm_rl_model import MixedLoss, build_xlstm_classifier, load_classifier

ROOT = Path(__file__).parent.parent
PRIOR = np.array([0.33, 0.40, 0.33])
NATURAL = PRIOR / PRIOR.sum()


def windows(seed=0, batch=5):
    return np.random.default_rng(seed).normal(size=(batch, 8, 6)).astype("float32")


def build(**changes):
    arguments = {"units": 8, "num_heads": 2, "class_prior": PRIOR}
    return build_xlstm_classifier(8, 6, **(arguments | changes))


@pytest.mark.parametrize("blocks", ["m", "s", "ms", "smm"])
def test_the_untrained_model_outputs_the_prior_on_any_input(blocks):
    keras.utils.set_random_seed(0)
    logits = build(blocks=blocks)(100 * windows())
    np.testing.assert_allclose(ops.softmax(logits), np.tile(NATURAL, (5, 1)), atol=1e-6)


def test_the_first_cross_entropy_is_the_entropy_of_the_prior():
    labels = np.random.default_rng(0).choice(3, 3000, p=NATURAL)
    labels = np.repeat([0, 1, 2], np.round(NATURAL * 3000).astype(int))
    x = np.tile(windows(batch=1), (len(labels), 1, 1))
    loss = MixedLoss(ce_weight=1.0)(labels, build(blocks="m")(x))
    shares = np.bincount(labels) / len(labels)
    assert float(loss) == pytest.approx(-np.sum(shares * np.log(NATURAL)), abs=1e-5)


def test_without_a_prior_the_head_is_a_plain_dense_layer():
    keras.utils.set_random_seed(0)
    model = build(class_prior=None)
    head = model.get_layer("classifier")
    assert type(head) is keras.layers.Dense
    assert model.layers[-1] is head
    assert np.any(head.kernel.numpy() != 0) and not np.any(head.bias.numpy())


def test_the_bias_of_the_head_has_no_weight_decay():
    model = build(weight_decay_l2=0.5)
    assert model.get_layer("classifier").bias_regularizer is None
    regularised = {w.path for w in model.trainable_variables if w.regularizer is not None}
    assert regularised and all("kernel" in path for path in regularised)
    assert not any("recurrent" in path or path.endswith("/gate_kernel") for path in regularised)
    assert not build(weight_decay_l2=0.0).losses


def test_scaling_sits_inside_the_model():
    keras.utils.set_random_seed(0)
    plain = build(class_prior=None)
    scaled = build(class_prior=None, feature_mean=np.full(6, 5.0), feature_variance=np.full(6, 4.0))
    pairs = zip(scaled.trainable_variables, plain.trainable_variables, strict=True)
    for variable, value in pairs:
        variable.assign(value)
    np.testing.assert_allclose(scaled(5 + 2 * windows()), plain(windows()), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"units": 7}, "units must be a multiple of num_heads, got units = 7, num_heads = 2"),
        ({"blocks": "mx"}, "blocks must be letters m and s"),
        ({"blocks": ""}, "blocks must be letters m and s"),
        ({"class_prior": [0.5, 0.5]}, "class_prior must hold 3 positive numbers"),
        ({"class_prior": [0.5, 0.5, 0.0]}, "class_prior must hold 3 positive numbers"),
        ({"feature_mean": np.zeros(6)}, "must be given together"),
        ({"feature_mean": np.zeros(5), "feature_variance": np.ones(5)}, "shape (6,), got (5,)"),
    ],
)
def test_wrong_arguments_are_named(changes, text):
    with pytest.raises(ValueError) as error:
        build(**changes)
    assert text in str(error.value)


def test_the_classifier_keeps_its_outputs_in_a_fresh_process(tmp_path):
    keras.utils.set_random_seed(0)
    model = build(class_prior=None, logit_clip=2.0, recurrent_dropout=0.1, weight_decay_l2=1e-4)
    contract = {"class_names": ["SELL", "HOLD", "BUY"], "feature_names": list("abcdef")}
    deployable = make_deployable(model, RestoreProbabilities(gamma=[1.0, 2.0, 1.0]), contract)
    save_model(deployable, tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", windows())
    code = (
        "import sys, numpy as np\n"
        "from models.xlstm_rl_model import load_classifier\n"
        "model = load_classifier(sys.argv[1] + '/model.keras', feature_names=list('abcdef'))\n"
        "np.save(sys.argv[1] + '/y.npy', model.predict(np.load(sys.argv[1] + '/x.npy'), verbose=0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = deployable.predict(windows(), verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)
    with pytest.raises(ValueError, match="at place 1 it has b, got z"):
        load_classifier(tmp_path / "model.keras", feature_names=list("azcdef"))
    with pytest.raises(ValueError, match="classes must be those"):
        load_classifier(tmp_path / "model.keras", class_names=["BUY", "HOLD", "SELL"])

"""The catalogue has every message with its placeholders; numbers and dates are the language's."""

import ast
import gettext
import string

import pytest
from tiny_run import ROOT

import train_model
from core import i18n
from core.errors import InputError
from core.i18n import _, date, ngettext, number, of_locale, speaking

CATALOGUE = i18n.LOCALE / "ru" / "LC_MESSAGES" / "messages.po"
KEYWORDS = {"_": None, "N_": None, "InputError": None, "ngettext": (1, 2)}
SOURCES = [ROOT / "train_model.py", ROOT / "config.py"]
SOURCES += [
    path
    for room in ("core", "data", "models", "evaluation", "recipe", "xlstm_classifier")
    for path in (ROOT / room).rglob("*.py")
]


def read_catalogue():
    pofile = pytest.importorskip("babel.messages.pofile", reason="needs Babel to read catalogues")
    with CATALOGUE.open("rb") as file:
        return pofile.read_po(file, locale="ru")


def extracted():
    """Returns the messages that .ci/messages finds in the sources."""
    pytest.importorskip("babel", reason="needs Babel to find messages")
    from babel.messages.extract import extract_from_dir
    from babel.messages.frontend import parse_mapping_cfg

    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = extract_from_dir(ROOT, methods, options, keywords=KEYWORDS)
    return {message if isinstance(message, str) else message[0] for _, _, message, *_ in found}


def placeholders(text):
    """Returns fields, conversions and formats of `{}`, and the `%` formats of argparse."""
    if "%(" in text or "%s" in text:
        return sorted(word for word in text.split() if "%" in word)
    fields = string.Formatter().parse(text)
    return sorted((name, form, turn) for _, name, form, turn in fields if name is not None)


def test_every_message_in_the_sources_is_in_the_catalogue_and_no_other():
    known = {m.id if isinstance(m.id, str) else m.id[0] for m in read_catalogue() if m.id}
    assert extracted() - known == set(), "run .ci/messages"
    assert known - extracted() == set(), "run .ci/messages"


def test_babel_finds_every_message_in_the_sources():
    """It passes over a message in brackets inside another call that has messages."""
    found = extracted()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KEYWORDS:
                text = getattr(node.args[0], "value", None)
                assert not isinstance(text, str) or text in found, f"{path}:{node.lineno}"


def test_errors_whose_messages_babel_does_not_look_for_are_given_them_in_a_call_of_it():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    names = {
        node.name
        for _, node in nodes
        if isinstance(node, ast.ClassDef)
        and "InputError" in [getattr(base, "id", "") for base in node.bases]
    }
    assert names
    for path, node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            assert not any(" " in str(text) for text in texts), f"{path}:{node.lineno}"


def test_every_message_has_its_russian_with_the_same_placeholders():
    messages = [message for message in read_catalogue() if message.id]
    assert len(messages) > 300
    for message in messages:
        ids = [message.id] if isinstance(message.id, str) else message.id
        texts = [message.string] if isinstance(message.id, str) else message.string
        assert not message.fuzzy and len(texts) == (1 if len(ids) == 1 else 3), message.id
        for text in texts:
            assert text.strip(), message.id
            assert placeholders(text) == placeholders(ids[-1]), message.id


def test_the_compiled_catalogue_is_that_of_the_text():
    compiled = gettext.translation("messages", i18n.LOCALE, ["ru"])
    for message in read_catalogue():
        if isinstance(message.id, str) and message.id:
            assert compiled.gettext(message.id) == message.string, "run .ci/messages"
        elif message.id:
            forms = [compiled.ngettext(*message.id, n) for n in (1, 2, 5)]
            assert forms == list(message.string), "run .ci/messages"


def test_no_message_is_filled_before_it_is_looked_up():
    """An f-string as a message, or a message inside one, is never found in a catalogue."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in KEYWORDS:
                assert not isinstance(node.args[0], ast.JoinedStr), f"{path}:{node.lineno}"
            if isinstance(node, ast.JoinedStr):
                inside = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
                for call in inside:
                    if getattr(call.func, "id", "") in KEYWORDS:
                        assert not isinstance(call.args[0], ast.Constant), f"{path}:{call.lineno}"


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LC_MESSAGES": "ru_UA@x", "LANG": "en_GB.UTF-8"}, "ru"),
        ({"LC_ALL": "C.UTF-8", "LC_MESSAGES": "ru_RU", "LANG": "ru_RU"}, "en"),
        ({"LC_ALL": "", "LANG": "ru"}, "ru"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "rue"}, "en"),
    ],
)
def test_the_locale_gives_the_language(environment, expected):
    assert of_locale(environment) == expected


def test_numbers_and_dates_are_written_as_the_language_does():
    given = 12345.678, "2024-01-31T05:45:00", "2024-01-31", "2024-01", "2024", "AAA"

    def told():
        value, *dates = given
        filled = _("{x:,.1f} {share:.0%} {text}", x=value, share=0.5, text="1.5")
        return [number(value, ",.1f"), filled, *map(date, dates)]

    assert told() == ["12,345.7", "12,345.7 50% 1.5", *given[1:]]
    with speaking("ru"):
        numbers = [
            "12\N{NO-BREAK SPACE}345,7",
            "12\N{NO-BREAK SPACE}345,7 50\N{NO-BREAK SPACE}% 1.5",
        ]
        assert told() == [*numbers, "31.01.2024 05:45:00", "31.01.2024", "01.2024", "2024", "AAA"]
    assert i18n.language() == "en"


def test_counts_have_the_plural_forms_of_the_language():
    forms = "{n} epoch", "{n} epochs"
    assert [ngettext(*forms, n) for n in (1, 2)] == ["1 epoch", "2 epochs"]
    with speaking("ru"):
        told = [ngettext(*forms, n) for n in (1, 2, 5, 11, 21, 104)]
    assert told == ["1 эпоха", "2 эпохи", "5 эпох", "11 эпох", "21 эпоха", "104 эпохи"]


def test_an_error_of_the_input_is_translated_and_filled():
    message = "{file} cannot be read: {reason}"
    with speaking("ru"):
        error = InputError(message, file="bars.csv", reason="?")
        assert error.faults == ["bars.csv не прочитать: ?"]
        assert InputError(_(message, file="{x}", reason="?")).faults == ["{x} не прочитать: ?"]
    assert InputError(message, file="bars.csv", reason="?").faults == ["bars.csv cannot be read: ?"]


# --- the command line


@pytest.mark.parametrize("arguments", [["--lang", "ru"], ["--lang=ru"]])
def test_the_command_line_speaks_the_language_that_is_asked_for(arguments, capsys):
    assert train_model.main(["--set", "EMA_DECY=1", *arguments]) == 2
    assert capsys.readouterr().err == "неизвестный флаг EMA_DECY; может быть, EMA_DECAY?\n"
    assert i18n.language() == "en"


def test_without_an_option_it_speaks_that_of_the_locale(monkeypatch, capsys):
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")
    assert train_model.main(["resum"]) == 2
    assert "команда должна быть одной из train, resume" in capsys.readouterr().err
    assert train_model.main(["--set", "EMA_DECY=1", "--lang", "en"]) == 2
    assert capsys.readouterr().err == "unknown flag EMA_DECY; did you mean EMA_DECAY?\n"


def test_help_and_faults_of_options_are_in_russian(capsys):
    for arguments, told in [
        (["predict", "--help", "--lang", "ru"], "Записать вероятности обученной модели в CSV."),
        (["predict", "--lang", "ru"], "ошибка: не хватает аргументов: RUN"),
    ]:
        with pytest.raises(SystemExit):
            train_model.main(arguments)
        said = "".join(capsys.readouterr())
        assert told in said and "вызов: train_model.py" in said and "usage" not in said
    assert train_model.main(["--lang", "ru", "--wrong"]) == 2
    assert capsys.readouterr().err == "неизвестные аргументы: --wrong\n"


def test_a_language_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        train_model.main(["--lang", "fr"])
    assert done.value.code == 2 and "--lang" in capsys.readouterr().err


def test_what_the_models_say_is_said_in_the_language_of_now(tmp_path):
    from models.training.callbacks.checkpoint import load_latest
    from models.training.callbacks.nan_guard import TrainingDiverged, first_nonfinite_layer
    from recipe.cli.backend import load_model

    (tmp_path / "epoch-000001.checkpoint").write_bytes(b"torn")

    def told():
        fault, notes = first_nonfinite_layer(None, [[[1.0, float("nan")]]], ["range", "rsi"]), []
        load_latest(tmp_path, notes.append)
        return [str(TrainingDiverged(2, 3, fault)), *notes]

    assert told()[0].startswith("training diverged in epoch 3, batch 4: input feature 1 (rsi) is")
    with speaking("ru"):
        assert told() == [
            "обучение разошлось: эпоха 3, батч 4: входной признак 1 (rsi) не является конечным "
            "числом",
            "контрольная точка epoch-000001.checkpoint пропущена: контрольная сумма не сходится, "
            "файл оборван или повреждён",
        ]
        with pytest.raises(InputError, match="нет такого файла модели: /none"):
            load_model("/none")

"""Chat templates: which one the output gets. They are copied as text and never rendered here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json
from tunemerge.registry import nearest

MAX_BYTES = 1_000_000
FILE = "chat_template.jinja"

TEMPLATES: dict[str, str] = {
    # OpenAI's chat markup, as published with its first chat models.
    "chatml": (
        "{%- for message in messages %}\n"
        "    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n"
        "{%- endif %}\n"
    ),
    # Stanford Alpaca: sections with headings, a blank line between them.
    "alpaca": (
        "{%- set headings = {'user': '### Instruction:\\n', 'assistant': '### Response:\\n'} %}\n"
        "{%- for message in messages %}\n"
        "    {{- headings.get(message['role'], '') + message['content'] | trim + '\\n\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- headings['assistant'] }}\n"
        "{%- endif %}\n"
    ),
    # Meta's model card of Llama 3.
    "llama3": (
        "{{- bos_token }}\n"
        "{%- for message in messages %}\n"
        "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\n"
        "    {{- message['content'] | trim + '<|eot_id|>' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
        "{%- endif %}\n"
    ),
    # Mistral 7B Instruct: no role of its own for the system, whose text goes before the first question.
    "mistral": (
        "{%- set state = namespace(before='') %}\n"
        "{{- bos_token }}\n"
        "{%- for message in messages %}\n"
        "    {%- if message['role'] == 'system' %}\n"
        "        {%- set state.before = message['content'] + '\\n\\n' %}\n"
        "    {%- elif message['role'] == 'user' %}\n"
        "        {{- ' [INST] ' + state.before + message['content'] + ' [/INST]' }}\n"
        "        {%- set state.before = '' %}\n"
        "    {%- else %}\n"
        "        {{- ' ' + message['content'] + eos_token }}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
    ),
    # LG's model card of EXAONE 3: a system turn always comes first, and only a user's turn has no end mark.
    "exaone": (
        "{%- if not messages or messages[0]['role'] != 'system' %}\n"
        "    {{- '[|system|][|endofturn|]\\n' }}\n"
        "{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {{- '[|' + message['role'] + '|]' + message['content'] }}\n"
        "    {{- '\\n' if message['role'] == 'user' else '[|endofturn|]\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '[|assistant|]' }}\n"
        "{%- endif %}\n"
    ),
}
"""By the names that mergekit's recipes use; written from the published formats."""


def read_chat_template(value: Any, folders: Iterable[Path]) -> tuple[str | None, str | None]:
    """(the template's text, "auto" or None; what is wrong with `value` or None).

    `value` is "auto", a name in TEMPLATES, Jinja text, or a file in one of `folders`.
    """
    if value is None or value == "auto":
        return value, None
    if not isinstance(value, str) or not value.strip():
        return None, f"chat_template is auto, a name, a file or Jinja text, not {value!r}"
    if value in TEMPLATES:
        return TEMPLATES[value], None
    if "{" in value:
        return value, None
    for folder in folders:
        path = folder / Path(value).expanduser()
        if path.is_file():
            return _read(path)
    accepted = f"auto, a file, Jinja text, or one of {', '.join(TEMPLATES)}"
    close = nearest(value, list(TEMPLATES))
    hint = close if "mean" in close else ""
    return None, f"no chat template {value!r}: neither a bundled one nor a file{hint}; accepted: {accepted}"


def _read(path: Path) -> tuple[str | None, str | None]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None, f"{path}: larger than {MAX_BYTES:,} bytes; is this the right file?"
        return path.read_bytes().decode("utf-8"), None
    except (OSError, UnicodeDecodeError) as problem:
        return None, f"{path}: not readable as UTF-8 text ({problem})"


def commonest_template(folders: Iterable[Path]) -> str | None:
    """The chat template that most of the models have, the first of those that tie; None where none has one.

    Raises CheckpointError where a tokenizer_config.json can't be read.
    """
    found = [text for text in (template_of(folder) for folder in folders) if text]
    counts = Counter(text.strip() for text in found)
    return max(found, key=lambda text: counts[text.strip()], default=None)


def template_of(folder: Path) -> str | None:
    """A model's own default template: its chat_template.jinja, else the one in tokenizer_config.json."""
    if (folder / FILE).is_file():
        text, _ = _read(inside(folder, FILE))
        return text
    if not (folder / "tokenizer_config.json").is_file():
        return None
    value = read_json(inside(folder, "tokenizer_config.json")).get("chat_template")
    if isinstance(value, list):
        value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    return value if isinstance(value, str) and value.strip() else None

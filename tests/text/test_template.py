"""Chat templates: the same prompt as transformers renders, and hostile ones stopped."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from models_backend.text.contract import EngineError
from models_backend.text.template import MAX_CHARS, ChatTemplate

CHAT = [
    {"role": "system", "content": "Be <brief> & 'kind'."},
    {"role": "user", "content": "Hé {{ 7*7 }} 🌊"},
]
CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LLAMA = """{{ bos_token }}{% set ns = namespace(first=true) %}{% for m in messages %}
    {%- if loop.first and m.role == 'system' %}{{- '[SYS]' ~ m.content | trim ~ '[/SYS]' }}{% continue %}{% endif %}
    {%- if m.role == 'assistant' %}{% generation %}{{ m.content.strip().split('x')[0] }}{% endgeneration %}
    {%- else %}{{- '[INST]' ~ m.content | tojson ~ '[/INST]' }}{% endif %}
{% endfor %}"""


@pytest.mark.parametrize("source", [CHATML, LLAMA], ids=["chatml", "llama"])
def test_a_prompt_reads_as_transformers_writes_it(source: str) -> None:
    expected, _ = render_jinja_template([CHAT], chat_template=source, add_generation_prompt=True, bos_token="<s>")
    assert ChatTemplate(source, {"bos_token": "<s>"}).render(CHAT) == expected[0]


def test_what_a_person_wrote_is_never_run_as_a_template() -> None:
    assert "{{ 7*7 }}" in ChatTemplate(CHATML, {}).render(CHAT)


def test_a_template_may_refuse_and_its_words_are_passed_on() -> None:
    with pytest.raises(EngineError, match="System role not supported") as refusal:
        ChatTemplate("{{ raise_exception('System role not supported') }}", {}).render(CHAT)
    assert refusal.value.code == "template_refused"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% for a in range(90000) %}{% for b in range(90000) %}{% set c = a * b %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% for i in range(50) %}{{ m(n - 1) if n }}{% endfor %}{% endmacro %}{{ m(20) }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ [0] * 10 ** 10 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% set n = namespace(t='xx') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t='xx') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set n = namespace(t='xx') %}{% for i in range(60) %}{% set n.t = n.t.replace('x', 'xx') %}{% endfor %}",
        "{% set n = namespace(t='xx') %}{% for i in range(60) %}{% set n.t = n.t | replace('x', 'xx') %}{% endfor %}",
        "{% set n = namespace(t=['x']) %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set a = 'x' * 10 ** 6 %}{{ ([a] * 90000) | join }}",
        "{% set a = 'x' * 10 ** 6 %}{{ ''.join([a] * 90000) }}",
        "{% set a = 'x' * 10 ** 6 %}{{ a.replace('x', a) }}",
        "{% set a = 'x' * 10 ** 6 %}{{ a | replace('x', a) }}",
        "{% set n = namespace(t=1) %}{% for i in range(40) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t }}",
        "{% set n = namespace(t='x') %}{% for i in range(40) %}{% set n.t = {1: n.t, 2: n.t} %}{% endfor %}{{ n }}",
        "{% set n = namespace(t=1) %}{% for i in range(40) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t | tojson }}",
        "{% set n = namespace(t=1) %}{% for i in range(40) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t ~ '' }}",
        "{{ 'x'.ljust(10 ** 9) }}",
        "{{ 'x'.center(10 ** 9) }}",
        "{{ 'x' | center(10 ** 9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% for a in range(90000) %}{{ 'xxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
    ],
)
def test_a_template_that_wants_too_much_is_stopped(source: str) -> None:
    with pytest.raises(EngineError) as refusal:
        ChatTemplate(source, {}, max_seconds=0.2).render(CHAT)
    assert refusal.value.code in ("template_too_costly", "bad_template")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% include '/etc/passwd' %}",
        "{{ self.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__ | attr('__mro__') }}",
        "{{ lipsum.__globals__['os'] }}",
    ],
)
def test_a_template_cannot_reach_out_of_the_sandbox(source: str) -> None:
    try:
        text = ChatTemplate(source, {}).render(CHAT)
    except EngineError as error:
        assert error.code == "bad_template"
    else:
        assert text == ""


def test_a_template_that_does_not_compile_is_named() -> None:
    with pytest.raises(EngineError) as refusal:
        ChatTemplate("{% for %}", {})
    assert refusal.value.code == "bad_template"


def test_the_longest_prompt_that_may_be_sent_still_fits() -> None:
    from models_backend.protocol.runs import MAX_PROMPT_CHARS

    text = ChatTemplate(CHATML, {}).render([{"role": "user", "content": "x" * MAX_PROMPT_CHARS}])
    assert MAX_PROMPT_CHARS < len(text) < MAX_CHARS

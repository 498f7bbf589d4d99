"""Chat templates of our own that use what real ones use, and the conversations that they are tried on."""

TEMPLATES = {
    "default_system": """{%- if messages[0]['role'] != 'system' %}<|im_start|>system
You are helpful.<|im_end|>
{% endif -%}
{% for message in messages %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}""",
    "date_and_bos": """{{ bos_token }}{% set year = strftime_now('%Y') %}[year {{ year | length }} digits, {{ strftime_now('%B') is string }}]
{%- for message in messages -%}
    {{- '\\n' ~ message.role | upper ~ ': ' ~ message.content | trim ~ eos_token -}}
{%- endfor -%}
{{ '\\nASSISTANT:' if add_generation_prompt }}""",
    "alternating": """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant/user/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('only user and assistant roles') }}{% endif %}{% endfor %}""",
    "tools_and_macros": """{% macro schema(parameter, indent=0) -%}
{%- if parameter.type == 'object' -%}
{ {%- for name, value in parameter.properties | dictsort %}{{ '\\n' }}{{ ' ' * (indent + 2) }}{{ name }}{{ '' if name in parameter.required | default([]) else '?' }}: {{ schema(value, indent + 2) }}{% endfor %}{{ '\\n' }}{{ ' ' * indent }}}
{%- elif parameter.type == 'array' -%}{{ schema(parameter['items'], indent) }}[]
{%- elif parameter.enum is defined -%}{{ parameter.enum | map('tojson') | join(' | ') }}
{%- else -%}{{ parameter.type | default('any', true) }}{%- endif -%}
{%- endmacro %}
{%- if tools is not none and tools %}<tools>
{% for tool in tools %}{{ tool.function.name }}{{ schema(tool.function.parameters) }} <{{ tool.function.description | default('<none>') | tojson }}>
{% endfor %}</tools>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<result>{{ message.content }}</result>
{% elif message.tool_calls %}{% for call in message.tool_calls %}<call>{{ call.function.name }} {{ call.function.arguments | tojson(indent=2) }}</call>
{% endfor %}
{%- else %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}""",
    "thinking_dropped": """{%- set ns = namespace(last=messages | length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == 'user' %}{%- set ns.last = index %}{%- set ns.seen = true %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}{%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "loop_controls": """{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if loop.index > 3 %}...{% break %}{% endif %}
    {{ loop.index }}/{{ loop.length }} {{ loop.cycle('odd', 'even') }} {{ message.role[:1] }}> {{ message.content }}
{% else %}
nobody spoke
{% endfor %}""",
    "white_space": """  {% set intro %}
    Talk of {{ messages | length }}
  {% endset %}
{{ intro | trim }}
    {% for message in messages %}
        {%+ if loop.first %}first{% endif %}
  - {{ message.role | title | replace('U', 'V') }}:{{ '\\t' }}{{ message.content | string | truncate(12, true, '~') | wordcount }} words
    {% endfor %}
  end {#- a comment -#}   .
""",
    "marked": """{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}<a>{% generation %}{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}{{ part.text if part.type == 'text' else '[' ~ part.type ~ ']' }}{% endfor %}{% endif %}{{ eos_token }}{% endgeneration %}
{% else %}<{{ message.role[0] }}>{{ message.content if message.content is string else message.content | map(attribute='text') | select | join(' + ') }}
{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}""",
    "filters_and_tests": """{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% set kinds = dict(user='U', assistant='A') %}{{ users | length }} of {{ messages | length }}
{% for role, group in messages | groupby('role') %}{{ kinds.get(role, '?') }}={{ group | map(attribute='content') | map('length') | sum }} {% endfor %}
{{ messages | rejectattr('role', 'in', ['system', 'tool']) | map(attribute='role') | unique | sort | join(',') }}
{% for message in messages if message.content is string and 'x' not in message.content %}{{ loop.index }}{{ message | tojson }}
{% endfor %}{{ {'b': [1, 2.50, none, true], 'a': 'é<&>"'} | tojson }} {{ dict.fromkeys(['k'], 0) }} {{ 7 // 2 }} {{ 2 ** 5 }} {{ "%.2f" | format(1 / 3) }}""",
    "extra_variables": """{{ greeting | default('hello') }}{% if documents %}{{ documents | length }}{% endif %}{% if flags is mapping %}{% for key, value in flags.items() %} {{ key }}:{{ value }}{% endfor %}{% endif %}
{% for message in messages %}{{ message.role }}={{ message.get('name', 'anon') }}{% if 'thinking' in message %}({{ message.thinking }}|{{ message.reasoning_content }}){% endif %}: {{ message.content if 'content' in message else 'NOTHING' }}
{% endfor %}""",
}

WEATHER = {"type": "function", "function": {"name": "weather", "description": "What it's like < outside >", "parameters": {
    "type": "object", "properties": {"where": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]},
                                     "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["where"]}}}
CHATS = [
    {"messages": [{"role": "user", "content": "  What is 2 + 2? \n"}, {"role": "assistant", "content": "4"}]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Γειά 你好 🙂"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
                  {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "reasoning_content": "deep\n"}]},
    {"messages": [{"role": "user", "content": "weather?"},
                  {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {
                      "name": "weather", "arguments": {"where": "Zürich <b>", "days": [1, 2], "z": 1.50}}}]},
                  {"role": "tool", "name": "weather", "content": "{\"t\": 21}"},
                  {"role": "assistant", "content": "21 degrees", "thinking": "easy"}], "tools": [WEATHER]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}]},
                  {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}]},
    {"messages": [{"role": "user", "content": "one\r\ntwo"}], "kwargs": {"greeting": "hi", "flags": {"a": 1, "b": [True, None]}, "enable_thinking": False}},
    {"messages": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "and x I answer"},
                  {"role": "assistant", "content": "and I"}, {"role": "assistant", "content": "again"}]},
]

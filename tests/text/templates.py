"""Chat templates of the three forms, each behaving as those of known models do."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""SmolLM2's without its default system message: knows nothing of tools."""

PHI = (
    "{%- for message in messages -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- if message['role'] == 'system' and message['tools'] is string -%}"
    "{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}"
    "{%- endif -%}"
    "{{ '<|end|>' }}"
    "{%- endfor -%}"
    "{{ '<|assistant|>' if add_generation_prompt else '<|endoftext|>' }}"
)
"""Phi-4-mini's: tools as text in a system message, any role as a control token."""

HERMES = """
{%- if tools %}
    {{- '<|im_start|>system\\n' + (messages[0].content if messages[0].role == 'system' else '') }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>' + message.content }}
        {{- '</tool_response><|im_end|>\\n' }}
    {%- elif message.role != 'system' %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls %}
            {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""Qwen's: takes `tools` as a variable, prints calls and results itself."""

PHI_GGUF = """
{%- if messages[0].role == 'system' or tools is defined %}
    {{- '<|system|>' + (messages[0].content if messages[0].role == 'system' else '') }}
    {%- for tool in tools if tools is defined %}
        {{- '<|tool|>' + (tool.function | tojson) + '<|/tool|>' }}
    {%- endfor %}
    {{- '<|end|>' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'tool' %}
        {{- '<|tool_response|>' + (message.content | tojson) + '<|end|>' }}
    {%- else %}
        {{- '<|' + message.role + '|>' + message.content }}
        {%- for call in message.tool_calls %}
            {{- '<|tool_call|>' + (call.function | tojson) + '<|/tool_call|>' }}
        {%- endfor %}
        {{- '<|end|>' }}
    {%- endif %}
{%- endfor %}
{{- '<|assistant|>' }}
"""
"""As some GGUF files of Phi-4-mini have it: `tools` as a variable, one call between tags."""

/* SPDX-License-Identifier: Apache-2.0 */
/* templates.c: see templates.h. Texts of our own for formats that are public; what they make of a
 * conversation is, to the blank, what mergekit's make of it (tests/peers/peer_merge_vocab.py): also
 * the line ends behind <|eot_id|>, the blanks of exaone and the missing blank line before an
 * alpaca answer, which the models' own templates do not have. */
#include "merge/templates.h"

static const struct {
    const char *name, *text;
} named[] = {
    {"alpaca", "{%- set heads = {'user': 'Instruction', 'assistant': 'Response', 'user_context': "
               "'Input'} -%}\n"
               "{%- set ns = namespace(system='') -%}\n"
               "{%- for turn in messages if turn['role'] == 'system' -%}\n"
               "{%- set ns.system = turn['content'] | trim -%}\n"
               "{%- endfor -%}\n"
               "{{- ns.system + '\\n\\n' -}}\n"
               "{%- for turn in messages -%}\n"
               "{%- if turn['role'] in heads -%}\n"
               "{{- '### ' + heads[turn['role']] + ':\\n' + turn['content'] | trim -}}\n"
               "{{- '' if loop.last else '\\n\\n' -}}\n"
               "{%- endif -%}\n"
               "{%- endfor -%}\n"
               "{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}\n"
               "{{- '### Response:\\n' -}}\n"
               "{%- endif -%}\n"},
    {"chatml", "{%- for turn in messages -%}\n"
               "{{- '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' -}}\n"
               "{%- endfor -%}\n"
               "{%- if add_generation_prompt -%}\n"
               "{{- '<|im_start|>assistant\\n' -}}\n"
               "{%- endif -%}\n"},
    {"exaone", "{%- set end = '[|endofturn|]' -%}\n"
               "{%- set pad = '    ' -%}\n"
               "{%- for turn in messages -%}\n"
               "{%- if loop.first and turn['role'] != 'system' -%}\n"
               "{{- pad + pad + '[|system|]' + end + '\\n\\n' -}}\n"
               "{%- endif -%}\n"
               "{{- pad + '[|' + turn['role'] + '|]' + turn['content'] + '\\n' -}}\n"
               "{{- pad + pad + ('' if turn['role'] == 'user' else end) + '\\n\\n' -}}\n"
               "{%- endfor -%}\n"
               "{%- if add_generation_prompt -%}\n"
               "{{- pad + '[|assistant|]\\n' -}}\n"
               "{%- endif -%}\n"},
    {"llama3", "{%- for turn in messages -%}\n"
               "{%- if loop.first -%}{{- bos_token or '' -}}{%- endif -%}\n"
               "{{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' -}}\n"
               "{{- turn['content'] | trim + '<|eot_id|>\\n' -}}\n"
               "{%- endfor -%}\n"
               "{%- if add_generation_prompt -%}\n"
               "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}\n"
               "{%- endif -%}\n"},
    {"mistral",
     "{%- set has_system = messages[0]['role'] == 'system' -%}\n"
     "{%- set turns = messages[1:] if has_system else messages -%}\n"
     "{{- bos_token or '' -}}\n"
     "{%- for turn in turns -%}\n"
     "{%- set want = 'user' if loop.index0 is even else 'assistant' -%}\n"
     "{%- if turn['role'] != want -%}\n"
     "{{- raise_exception('turns of user and assistant must take turns, after at most one of "
     "system') -}}\n"
     "{%- elif want == 'user' -%}\n"
     "{%- set before = messages[0]['content'] + '\\n\\n' if loop.first and has_system else '' -%}\n"
     "{{- ' [INST] ' + before + turn['content'] + ' [/INST]' -}}\n"
     "{%- else -%}\n"
     "{{- ' ' + turn['content'] + (eos_token or '') -}}\n"
     "{%- endif -%}\n"
     "{%- endfor -%}\n"},
};

#define NAME_MAX_LEN 256 /* mergekit takes nothing longer for a name */
#define TEXT_MIN_LEN 20  /* and nothing shorter for a template */

static bool has(lb_str s, char c) {
    return s.len && memchr(s.ptr, c, s.len);
}

lb_status lb_merge_template(const lb_merge_config *c, lb_str *out, lb_err *err) {
    const char *names[LB_LEN(named) + 2] = {"auto"}, *near;
    lb_str t = c->chat_template;
    *out = LB_STR_NONE;
    if (lb_str_eq_c(t, "auto"))
        return LB_OK;
    for (u32 i = 0; i < LB_LEN(named); i++) {
        names[i + 1] = named[i].name;
        if (lb_str_eq_c(t, named[i].name)) {
            *out = lb_str_c(named[i].text);
            return LB_OK;
        }
    }
    if (t.len >= TEXT_MIN_LEN && has(t, '{')) {
        *out = t;
        return LB_OK;
    }
    near = t.len < NAME_MAX_LEN ? lb_merge_nearest(t, names) : NULL;
    return lb_fail(err, LB_E_FORMAT,
                   "%.*s: line %u: chat_template: '%.*s' is neither auto, alpaca, chatml, exaone, "
                   "llama3 or mistral nor a template%s%s%s",
                   LB_FMT(c->what), c->chat_template_line, (int)LB_MIN(t.len, (size_t)80), t.ptr,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

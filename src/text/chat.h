/* SPDX-License-Identifier: Apache-2.0 */
/* chat.h: a model's chat templates and the variables that they get, as transformers'
 * apply_chat_template gives them.
 *
 * Where a model has its templates: chat_template.jinja and additional_chat_templates/NAME.jinja,
 * else chat_template in tokenizer_config.json (one, or named ones), else chat_template.json; in a
 * GGUF the keys tokenizer.chat_template and tokenizer.chat_template.NAME. Of named ones "tool_use"
 * is taken when there are tools, else "default". Read-only once it is open: threads share it. */
#ifndef LB_TEXT_CHAT_H
#define LB_TEXT_CHAT_H

#include "base/base.h"
#include "base/mem.h"
#include "io/json.h"
#include "tensor/source.h"
#include "text/template.h"

typedef struct lb_chat lb_chat;

/* s need not outlive it. LB_E_NOT_FOUND: the model has no template; LB_E_FORMAT... of its files and
 * of the templates, which are compiled at once. */
lb_status lb_chat_open(lb_chat **out, const lb_source *s, lb_err *err);
/* The model's special tokens, and this template in place of its own. what names it in errors. */
lb_status lb_chat_open_with(lb_chat **out, const lb_source *s, lb_str text, const char *what,
                            lb_err *err);
/* One template's text, without a model: bos_token and the like are undefined. */
lb_status lb_chat_from_text(lb_chat **out, lb_str text, const char *what, lb_err *err);
void lb_chat_close(lb_chat **c);
/* "bos_token", "eos_token"... as the template sees them; empty: none. */
lb_str lb_chat_special(const lb_chat *c, const char *key);

typedef struct lb_chat_input {
    const lb_json *messages;  /* an array of objects */
    const lb_json *tools;     /* an array of objects; NULL or null: none */
    const lb_json *documents; /* the same */
    const lb_json *kwargs;    /* an object: more variables; they count before special tokens */
    const char *name;         /* a named template; NULL: as above */
    bool generation_prompt;   /* add_generation_prompt */
} lb_chat_input;

/* Appends the prompt; opts may be NULL. Members of a message that are null are left out, as
 * apply_chat_template does it, where the template is a model's; reasoning_content is filled in from
 * `thinking` and `reasoning`, and the other way round.
 *   errors LB_E_FORMAT: what is no conversation; and those of lb_template_render. */
lb_status lb_chat_render(const lb_chat *c, const lb_chat_input *in, const lb_template_opts *opts,
                         lb_buf *out, lb_err *err);

/* The parts of {"messages": [...], "tools": [...], "documents": [...], "add_generation_prompt":
 * bool, "chat_template_kwargs": {...}, ...}: what else is there are variables too. kwargs is made
 * in perm. LB_E_FORMAT: no messages. */
lb_status lb_chat_input_from_json(const lb_json *request, lb_arena *perm, lb_chat_input *out,
                                  lb_err *err);
/* Further variables, which count before those that are there. */
lb_status lb_chat_input_add(lb_chat_input *in, const lb_json *kwargs, lb_arena *perm, lb_err *err);

#endif

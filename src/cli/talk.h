/* SPDX-License-Identifier: Apache-2.0 */
/* talk.h: conversations on the command line: options of the template, messages, what a model gets
 * to read. */
#ifndef LB_CLI_TALK_H
#define LB_CLI_TALK_H

#include "cli/infer.h"
#include "text/chat.h"

typedef struct lb_talk_opts {
    const char *system;   /* the text of a system message, or NULL */
    const char *kwargs;   /* a JSON object, or NULL */
    const char *template; /* a file, or NULL: the model's */
} lb_talk_opts;

#define LB_TALK_OPTS 3
extern const lb_opt lb_talk_rows[LB_TALK_OPTS];
#define LB_GROUP_TALK(offset) \
    { .title = "Conversation", .opts = lb_talk_rows, .n = LB_TALK_OPTS, .off = (offset) }

typedef struct lb_talk {
    lb_chat *chat;
    lb_chat_input input; /* what is there beside messages: kwargs, tools */
    lb_arena arena;
} lb_talk;

/* t starts as zero and is to be closed in any case. */
lb_status lb_talk_open(lb_talk *t, const lb_source *s, const lb_talk_opts *o, lb_err *err);
void lb_talk_close(lb_talk *t);

/* {"role": ..., "content": ...} at the end of the list. */
lb_status lb_talk_say(lb_json *messages, const char *role, lb_str text, lb_arena *a, lb_err *err);
/* The conversation of a JSON text: an array of messages, or an object with "messages" (and tools
 * and variables, which t takes over). *messages is in a. what names it in errors. */
lb_status lb_talk_parse(lb_talk *t, lb_str text, const char *what, lb_arena *a, lb_json **messages,
                        lb_err *err);
/* Appends what the model reads: the messages, and the begin of an answer. */
lb_status lb_talk_render(const lb_talk *t, const lb_json *messages, lb_buf *out, lb_err *err);
/* Whether a system message stands in what the model reads before a user's. LB_E_FORMAT: the
 * template raises. */
lb_status lb_talk_hears_system(const lb_talk *t, const lb_json *message, bool *heard, lb_err *err);
/* A token in angle brackets and bars that the rendered text has, the messages have not, and the
 * tokenizer does not know: the template is of another model. False: none. */
bool lb_talk_unknown_token(const lb_encoder *e, lb_str rendered, const lb_json *messages,
                           lb_str *token);

#endif

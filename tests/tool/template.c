/* SPDX-License-Identifier: Apache-2.0 */
/* template.c: renders templates, for tests/peers/peer_template.py.
 *
 * usage: template [NOW_US]. For each line of standard input, {"template": TEXT, "vars": {...}} or
 * {"template": TEXT, "chat": {"messages": ...}} (a template that is missing is the one before): a
 * line {"text": TEXT}, or {"error": MESSAGE, "status": "malformed input"...}. NOW_US: the time of
 * strftime_now. */
#include "text/chat.h"
#include <stdio.h>
#include <stdlib.h>

static lb_err err;

typedef struct state {
    lb_chat *chat;
    lb_template *t;
    i64 now_us;
    bool has_now;
    lb_status broken; /* of the template; its message */
    char message[LB_ERR_MSG_MAX];
} state;

static lb_status compile(state *s, const lb_json *text) {
    lb_chat_close(&s->chat);
    lb_template_free(&s->t);
    s->broken = lb_template_new(&s->t, text->text, "t", &err);
    if (s->broken == LB_OK)
        s->broken = lb_chat_from_text(&s->chat, text->text, "t", &err);
    memcpy(s->message, err.msg, sizeof s->message);
    return s->broken;
}

static lb_status render(state *s, const lb_json *line, lb_arena *a, lb_buf *out) {
    lb_template_opts o = {.now_us = s->has_now ? &s->now_us : NULL};
    const lb_json *text = lb_json_get(line, "template"), *chat = lb_json_get(line, "chat");
    lb_chat_input in;
    if (text)
        (void)compile(s, text);
    if (s->broken != LB_OK)
        return lb_fail(&err, s->broken, "%s", s->message);
    if (!chat)
        return lb_template_render(s->t, lb_json_get(line, "vars"), &o, out, &err);
    LB_TRY(lb_chat_input_from_json(chat, a, &in, &err));
    return lb_chat_render(s->chat, &in, &o, out, &err);
}

static void answer(state *s, lb_str line) {
    lb_arena a = {0};
    lb_buf text = {0}, out = {0};
    lb_json *v;
    lb_status st = lb_json_parse(line, "line", &a, &v, &err);
    if (st == LB_OK)
        st = render(s, v, &a, &text);
    lb_buf_put_c(&out, st == LB_OK ? "{\"text\": " : "{\"error\": ");
    lb_json_write_str(&out, st == LB_OK ? lb_buf_str(&text) : lb_str_c(err.msg), true);
    if (st != LB_OK)
        lb_buf_printf(&out, ", \"status\": \"%s\"", lb_status_text(st));
    lb_buf_put_c(&out, "}\n");
    (void)fwrite(out.ptr, 1, out.len, stdout);
    lb_buf_deinit(&text);
    lb_buf_deinit(&out);
    lb_arena_deinit(&a);
}

int main(int argc, char **argv) {
    state s = {0};
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (argc > 1) {
        s.now_us = strtoll(argv[1], NULL, 10);
        s.has_now = true;
    }
    while ((n = getline(&line, &cap, stdin)) > 0) {
        answer(&s, (lb_str){line, (size_t)n});
        (void)fflush(stdout);
    }
    free(line);
    lb_chat_close(&s.chat);
    lb_template_free(&s.t);
    return 0;
}

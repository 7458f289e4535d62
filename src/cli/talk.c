/* SPDX-License-Identifier: Apache-2.0 */
/* talk.c: see talk.h. */
#include "cli/talk.h"
#include "base/os.h"

#define TEMPLATE_BYTES_MAX (4 * LB_MIB)
#define TOKEN_BYTES_MAX 64 /* "<|...|>" */

const lb_opt lb_talk_rows[LB_TALK_OPTS] = {
    {.name = "system",
     .kind = LB_OPT_STR,
     .arg = "TEXT",
     .help = "a system message before the others",
     .off = offsetof(lb_talk_opts, system)},
    {.name = "kwargs",
     .kind = LB_OPT_STR,
     .arg = "JSON",
     .help = "more variables of the chat template: an object, such as {\"enable_thinking\": false}",
     .off = offsetof(lb_talk_opts, kwargs)},
    {.name = "chat-template",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "a template in place of the model's own",
     .off = offsetof(lb_talk_opts, template)},
};

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a conversation");
}

lb_status lb_talk_open(lb_talk *t, const lb_source *s, const lb_talk_opts *o, lb_err *err) {
    lb_json *kwargs = NULL;
    lb_str text;
    if (o->kwargs) {
        LB_TRY(lb_json_parse(lb_str_c(o->kwargs), "--kwargs", &t->arena, &kwargs, err));
        if (kwargs->type != LB_JOBJECT)
            return lb_fail(err, LB_E_USAGE, "--kwargs: a JSON object is expected");
        LB_TRY(lb_chat_input_add(&t->input, kwargs, &t->arena, err));
    }
    if (o->template) {
        LB_TRY(lb_os_read_file(o->template, TEMPLATE_BYTES_MAX, &t->arena, &text, err));
        return lb_chat_open_with(&t->chat, s, text, o->template, err);
    }
    lb_status st = lb_chat_open(&t->chat, s, err);
    if (st == LB_E_NOT_FOUND)
        lb_err_note(err, " with --chat-template");
    return st;
}

void lb_talk_close(lb_talk *t) {
    lb_chat_close(&t->chat);
    lb_arena_deinit(&t->arena);
    *t = (lb_talk){0};
}

lb_status lb_talk_say(lb_json *messages, const char *role, lb_str text, lb_arena *a, lb_err *err) {
    lb_json *m = lb_json_new_object(a);
    lb_str copy = lb_arena_str(a, text);
    return copy.ptr && lb_json_set(a, m, "role", lb_json_new_str(a, lb_str_c(role))) &&
                   lb_json_set(a, m, "content", lb_json_new_str(a, copy)) &&
                   lb_json_push(messages, m)
               ? LB_OK
               : no_memory(err);
}

lb_status lb_talk_parse(lb_talk *t, lb_str text, const char *what, lb_arena *a, lb_json **messages,
                        lb_err *err) {
    lb_json *v;
    lb_chat_input in;
    *messages = NULL;
    LB_TRY(lb_json_parse(text, what, a, &v, err));
    if (v->type == LB_JARRAY) {
        *messages = v;
        return LB_OK;
    }
    lb_status st = lb_chat_input_from_json(v, a, &in, err);
    if (st == LB_OK && in.messages->type != LB_JARRAY)
        st = lb_fail(err, LB_E_FORMAT, "\"messages\" is no array");
    if (st != LB_OK) {
        lb_err_context(err, "%s", what);
        return st;
    }
    /* --kwargs counts before what the file says. */
    if (t->input.kwargs)
        LB_TRY(lb_chat_input_add(&in, t->input.kwargs, &t->arena, err));
    *messages = lb_json_copy(a, in.messages);
    t->input = in;
    return *messages ? LB_OK : no_memory(err);
}

lb_status lb_talk_render(const lb_talk *t, const lb_json *messages, lb_buf *out, lb_err *err) {
    lb_chat_input in = t->input;
    in.messages = messages;
    in.generation_prompt = true;
    return lb_chat_render(t->chat, &in, NULL, out, err);
}

lb_status lb_talk_hears_system(const lb_talk *t, const lb_json *message, bool *heard, lb_err *err) {
    lb_arena a = {0};
    lb_buf text = {0};
    lb_str said = LB_STR_NONE;
    lb_json *list = lb_json_new_array(&a);
    size_t pos;
    lb_status st = lb_json_push(list, lb_json_copy(&a, message)) ? LB_OK : no_memory(err);
    if (st == LB_OK)
        st = lb_talk_say(list, "user", LB_STR("."), &a, err);
    if (st == LB_OK)
        st = lb_talk_render(t, list, &text, err);
    (void)lb_json_as_str(lb_json_get(message, "content"), &said);
    while (said.len && (u8)said.ptr[said.len - 1] <= ' ') /* templates trim */
        said.len--;
    while (said.len && (u8)said.ptr[0] <= ' ')
        said = lb_str_sub(said, 1, said.len);
    *heard = st == LB_OK && lb_str_find(lb_buf_str(&text), said, &pos);
    lb_buf_deinit(&text);
    lb_arena_deinit(&a);
    return st;
}

static bool is_in_value(const lb_json *v, lb_str what) {
    size_t pos;
    if (v->type == LB_JSTRING && lb_str_find(v->text, what, &pos))
        return true;
    for (const lb_json *c = v->first; c; c = c->next)
        if (is_in_value(c, what))
            return true;
    return false;
}

bool lb_talk_unknown_token(const lb_encoder *e, lb_str rendered, const lb_json *messages,
                           lb_str *token) {
    size_t at = 0, pos, end;
    for (; lb_str_find(lb_str_sub(rendered, at, rendered.len), LB_STR("<|"), &pos); at += pos + 2) {
        lb_str rest = lb_str_sub(rendered, at + pos, at + pos + TOKEN_BYTES_MAX);
        if (!lb_str_find(rest, LB_STR("|>"), &end))
            continue;
        *token = lb_str_sub(rest, 0, end + 2);
        if (lb_encoder_find(e, *token) == LB_NO_ID && !memchr(token->ptr, ' ', token->len) &&
            !memchr(token->ptr, '\n', token->len) && !is_in_value(messages, *token))
            return true;
    }
    return false;
}

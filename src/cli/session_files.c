/* SPDX-License-Identifier: Apache-2.0 */
/* session_files.c: conversations in files: as JSON, or as saved sessions, which have that as their
 * text. */
#include "base/os.h"
#include "cli/session.h"
#include "ops/saved.h"

#define FILE_BYTES_MAX (64 * LB_MIB)

/* The conversation of a JSON text, which is in memory that stays: tools and variables of it are
 * views. What fails leaves it as it was. */
static lb_status take(lb_session *s, lb_str text, const char *path, lb_err *err) {
    const lb_chat_input input = s->talk.input;
    lb_json *list = NULL;
    lb_buf rendered = {0};
    lb_status st = lb_talk_parse(&s->talk, text, path, &s->texts, &list, err);
    /* What the template does not take is told now, and not at the next message. */
    if (st == LB_OK && list->n) {
        st = lb_talk_render(&s->talk, list, &rendered, err);
        if (st != LB_OK)
            lb_err_context(err, "%s", path);
    }
    if (st == LB_OK)
        st = lb_session_replace(s, list, list->n, err);
    if (st == LB_OK)
        s->n_left_out = 0;
    else
        s->talk.input = input;
    lb_buf_deinit(&rendered);
    return st;
}

static lb_status load_saved(lb_session *s, const char *path, lb_err *err) {
    lb_saved saved;
    lb_buf text = {0};
    u32 n_kept;
    lb_status st = lb_saved_open(&saved, path, s->x.loaded, err);
    if (st == LB_OK && !saved.file.text_bytes)
        st = lb_fail(err, LB_E_USAGE,
                     "%s: there is no conversation in it: go on with it by lbrx generate --session",
                     path);
    if (st == LB_OK) /* what is kept is looked for at the next message */
        st = lb_saved_load(&saved, s->x.context, saved.ids, LB_MIN(saved.file.n_held, s->x.n_ctx),
                           &text, &n_kept, err);
    if (st == LB_OK) {
        lb_str copy = lb_arena_str(&s->texts, lb_buf_str(&text));
        st = copy.ptr ? take(s, copy, path, err)
                      : lb_fail(err, LB_E_NOMEM, "out of memory for the conversation");
    }
    lb_saved_close(&saved);
    lb_buf_deinit(&text);
    return st;
}

lb_status lb_session_load(lb_session *s, const char *path, lb_err *err) {
    lb_str text;
    lb_cur c;
    u8 head[8];
    LB_TRY(lb_cur_open(&c, path, err));
    bool saved = c.size_bytes >= sizeof head &&
                 lb_cur_bytes(&c, head, sizeof head, "it", NULL) == LB_OK &&
                 lb_session_file_is(head, sizeof head);
    lb_cur_close(&c);
    if (saved)
        return load_saved(s, path, err);
    LB_TRY(lb_os_read_file(path, FILE_BYTES_MAX, &s->texts, &text, err));
    return take(s, text, path, err);
}

static lb_status put_messages(const lb_session *s, lb_arena *a, lb_str *text, lb_err *err) {
    lb_json *all = lb_json_new_object(a);
    return lb_json_set(a, all, "messages", lb_json_copy(a, s->messages))
               ? lb_json_file(all, a, text, err)
               : lb_fail(err, LB_E_NOMEM, "out of memory for the conversation");
}

lb_status lb_session_save_all(const lb_session *s, const char *path, lb_err *err) {
    lb_arena a = {0};
    lb_saving to = {.path = path,
                    .loaded = s->x.loaded,
                    .context = s->x.context,
                    .ids = lb_context_ids(s->x.context, 0),
                    .n_ids = lb_context_length(s->x.context, 0)};
    lb_status st = put_messages(s, &a, &to.text, err);
    if (st == LB_OK)
        st = lb_saved_write(&to, err);
    lb_arena_deinit(&a);
    return st;
}

lb_status lb_session_save(const lb_session *s, const char *path, lb_err *err) {
    lb_arena a = {0};
    lb_str text;
    if (lb_str_ends(lb_str_c(path), LB_STR(".session")))
        return lb_session_save_all(s, path, err);
    lb_status st = put_messages(s, &a, &text, err);
    if (st == LB_OK)
        st = lb_os_replace_file(path, text, err);
    lb_arena_deinit(&a);
    return st;
}

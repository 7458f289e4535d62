/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: see session.h. */
#include "cli/session.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "ops/generate.h"
#include <stdio.h>

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the conversation");
}

/* ---- messages ---- */

static bool has_role(const lb_json *m, const char *role) {
    lb_str r;
    return m && lb_json_as_str(lb_json_get(m, "role"), &r) && lb_str_eq_c(r, role);
}

u64 lb_session_n_messages(const lb_session *s) {
    return s->messages->n;
}

lb_status lb_session_replace(lb_session *s, const lb_json *list, u64 n, lb_err *err) {
    lb_arena a = {0};
    lb_json *copy = lb_json_new_array(&a);
    const lb_json *m = list ? list->first : NULL;
    for (u64 i = 0; copy && m && i < n; i++, m = m->next)
        if (!lb_json_push(copy, lb_json_copy(&a, m)))
            copy = NULL;
    if (!copy) {
        lb_arena_deinit(&a);
        return no_memory(err);
    }
    lb_arena_deinit(&s->arena);
    s->arena = a;
    s->n_left_out = s->n_left_out < copy->n ? s->n_left_out : 0;
    s->messages = copy;
    return LB_OK;
}

static lb_status cut(lb_session *s, u64 n, lb_err *err) {
    return n < s->messages->n ? lb_session_replace(s, s->messages, n, err) : LB_OK;
}

/* Index of the last message of a role; n when there is none. */
static u64 last_of(const lb_session *s, const char *role) {
    u64 found = s->messages->n, i = 0;
    for (const lb_json *m = s->messages->first; m; m = m->next, i++)
        if (has_role(m, role))
            found = i;
    return found;
}

lb_str lb_session_system_text(const lb_session *s) {
    lb_str text = LB_STR_NONE;
    if (has_role(s->messages->first, "system"))
        (void)lb_json_as_str(lb_json_get(s->messages->first, "content"), &text);
    return text;
}

lb_status lb_session_system(lb_session *s, lb_str text, bool *heard, lb_err *err) {
    lb_arena a = {0};
    lb_json *list = lb_json_new_array(&a);
    lb_status st = list ? LB_OK : no_memory(err);
    *heard = true;
    if (st == LB_OK && text.len) {
        st = lb_talk_say(list, "system", text, &a, err);
        if (st == LB_OK)
            st = lb_talk_hears_system(&s->talk, list->first, heard, err);
    }
    const lb_json *m = s->messages->first;
    if (has_role(m, "system"))
        m = m->next;
    for (; m && st == LB_OK; m = m->next)
        if (!lb_json_push(list, lb_json_copy(&a, m)))
            st = no_memory(err);
    if (st == LB_OK)
        st = lb_session_replace(s, list, list->n, err);
    lb_arena_deinit(&a);
    return st;
}

lb_status lb_session_clear(lb_session *s, lb_err *err) {
    return cut(s, has_role(s->messages->first, "system") ? 1 : 0, err);
}

lb_status lb_session_undo(lb_session *s, lb_err *err) {
    u64 i = last_of(s, "user");
    if (i == s->messages->n)
        return lb_fail(err, LB_E_USAGE, "there is no message to take back");
    return cut(s, i, err);
}

/* ---- an answer ---- */

static lb_status show(void *user, lb_str piece, lb_err *err) {
    lb_session *s = user;
    return lb_thought_put(&s->thought, piece, false, s->show, s->user, err);
}

/* Another whole exchange is left out. False: there is none but the last. */
static bool leave_more_out(lb_session *s) {
    const bool system = has_role(s->messages->first, "system");
    u64 i = 0, n = s->n_left_out + system;
    for (const lb_json *m = s->messages->first; m; m = m->next, i++)
        if (i > n && has_role(m, "user")) {
            s->n_left_out = i - system;
            return true;
        }
    return false;
}

/* The messages that are read. */
static lb_status list_messages(const lb_session *s, lb_arena *a, lb_json **out, lb_err *err) {
    const bool system = has_role(s->messages->first, "system");
    u64 i = 0;
    lb_json *list = *out = lb_json_new_array(a);
    if (!list)
        return no_memory(err);
    for (const lb_json *m = s->messages->first; m; m = m->next, i++)
        if ((i == 0 && system) || i >= s->n_left_out + system)
            if (!lb_json_push(list, lb_json_copy(a, m)))
                return no_memory(err);
    return LB_OK;
}

static lb_status encode(lb_session *s, lb_encode_work *w, lb_buf *text, lb_buf *ids, lb_err *err) {
    lb_arena a = {0};
    lb_json *list;
    lb_buf_reset(text);
    lb_buf_reset(ids);
    lb_status st = list_messages(s, &a, &list, err);
    if (st == LB_OK)
        st = lb_talk_render(&s->talk, list, text, err);
    if (st == LB_OK)
        st = lb_encode_run(w, lb_buf_str(text), 0, ids, err);
    lb_arena_deinit(&a);
    return st;
}

/* Tokens that a conversation may have, so that there is room for an answer. */
static u32 room_for(const lb_session *s) {
    u32 answer = s->x.n_ctx / 4;
    if (s->n_max)
        answer = LB_MIN(answer, s->n_max);
    return s->shifts ? s->x.n_ctx - LB_MAX(answer, 1u) : s->x.n_ctx - 1;
}

/* What was left out leaves the context too, and what is behind it is not read again. */
static lb_status shift_out(lb_session *s, const lb_buf *ids, lb_err *err) {
    u32 n_gone;
    return lb_context_close_gap(s->x.context, 0, (const u32 *)(const void *)ids->ptr,
                                (u32)(ids->len / sizeof(u32)), &n_gone, err);
}

static lb_status read_messages(lb_session *s, lb_buf *ids, lb_err *err) {
    lb_buf text = {0};
    lb_encode_work *w = NULL;
    lb_str token;
    if (s->n_left_out >= s->messages->n)
        s->n_left_out = 0;
    const u64 before = s->n_left_out;
    lb_status st = lb_encode_work_new(&w, s->x.encoder, err);
    if (st == LB_OK)
        st = encode(s, w, &text, ids, err);
    while (st == LB_OK && s->shifts && ids->len / sizeof(u32) > room_for(s) && leave_more_out(s))
        st = encode(s, w, &text, ids, err);
    s->last.left_out = s->n_left_out > before;
    if (st == LB_OK && s->last.left_out)
        st = shift_out(s, ids, err);
    if (st == LB_OK && !s->n_answers && !s->common->quiet &&
        lb_talk_unknown_token(s->x.encoder, lb_buf_str(&text), s->messages, &token))
        (void)fprintf(stderr,
                      "lbrx: the chat template writes %.*s, which is no token of this model\n",
                      LB_FMT(token));
    /* Under a grammar the answer is the grammar's from its first character on. */
    lb_thought_begin(&s->thought, s->sampling.constraint ? LB_STR_NONE : lb_buf_str(&text));
    lb_encode_work_free(&w);
    lb_buf_deinit(&text);
    if (st == LB_OK && ids->len / sizeof(u32) >= s->x.n_ctx)
        st = lb_fail(err, LB_E_LIMIT,
                     "the conversation has %llu tokens, the context room for %u: /undo, /clear, or "
                     "start with a larger --ctx%s",
                     (unsigned long long)(ids->len / sizeof(u32)), s->x.n_ctx,
                     s->shifts ? "" : " or --context-shift");
    if (st != LB_OK)
        s->n_left_out = before;
    return st;
}

static lb_status keep_answer(lb_session *s, lb_err *err) {
    const lb_thought *t = &s->thought;
    lb_json *m = lb_json_new_object(&s->arena);
    lb_str said = lb_arena_str(&s->arena, lb_buf_str(&t->said)),
           thought = lb_arena_str(&s->arena, lb_buf_str(&t->thought));
    bool ok = said.ptr && thought.ptr &&
              lb_json_set(&s->arena, m, "role", lb_json_new_str(&s->arena, LB_STR("assistant")));
    if (ok && t->any)
        ok = lb_json_set(&s->arena, m, "reasoning_content", lb_json_new_str(&s->arena, thought));
    ok = ok && lb_json_set(&s->arena, m, "content", lb_json_new_str(&s->arena, said)) &&
         lb_json_push(s->messages, m);
    return ok ? LB_OK : no_memory(err);
}

static lb_status generate(lb_session *s, const lb_buf *ids, lb_generated *g, lb_err *err) {
    const lb_sampling *p = &s->sampling;
    const u32 n = (u32)(ids->len / sizeof(u32));
    lb_sampler_seed(p->sampler, p->seed + s->n_answers);
    lb_sampler_reset(p->sampler);
    if (p->constraint)
        lb_constraint_reset(p->constraint);
    lb_status st =
        lb_generate(s->x.context, (const u32 *)(const void *)ids->ptr, n,
                    &(lb_generate_opts){.n_max = s->n_max ? s->n_max : s->x.n_ctx - n + 1,
                                        .sampler = p->sampler,
                                        .encoder = s->x.encoder,
                                        .constraint = p->constraint,
                                        .stops = p->stops,
                                        .n_stops = p->n_stops,
                                        .stop_ids = p->stop_ids,
                                        .n_stop_ids = p->n_stop_ids,
                                        .shown_ids = (const u32 *)(const void *)s->shown.ptr,
                                        .n_shown_ids = (u32)(s->shown.len / sizeof(u32)),
                                        .draft = s->drafting.draft,
                                        .text = show,
                                        .stop = lb_interrupt_stop,
                                        .user = s},
                    g, err);
    s->last = (lb_turn){.stopped = g->stopped,
                        .left_out = s->last.left_out,
                        .interrupted = lb_interrupted(),
                        .n_kept = n - g->n_prompt_computed,
                        .n_read = g->n_prompt_computed,
                        .n_written = (u32)(g->ids.len / sizeof(u32)),
                        .read_us = g->prompt_us,
                        .write_us = g->generate_us};
    s->n_answers++;
    return st;
}

/* The answer to the messages. n: how many are kept where there is none. */
static lb_status answer(lb_session *s, u64 n, lb_err *err) {
    lb_buf ids = {0};
    lb_generated g = {0};
    s->last = (lb_turn){0};
    lb_status st = read_messages(s, &ids, err);
    if (st == LB_OK)
        st = generate(s, &ids, &g, err);
    if (st == LB_OK)
        st = lb_thought_put(&s->thought, LB_STR_NONE, true, s->show, s->user, err);
    bool any = s->thought.said.len || s->thought.thought.len;
    if (st == LB_OK && (any || !s->last.interrupted))
        st = keep_answer(s, err);
    else
        (void)cut(s, n, NULL);
    lb_generated_deinit(&g);
    lb_buf_deinit(&ids);
    return st;
}

lb_status lb_session_say(lb_session *s, lb_str text, lb_err *err) {
    const u64 n = s->messages->n;
    LB_TRY(lb_talk_say(s->messages, "user", text, &s->arena, err));
    return answer(s, n, err);
}

lb_status lb_session_again(lb_session *s, lb_err *err) {
    const u64 n = s->messages->n;
    u64 user = last_of(s, "user");
    lb_arena a = {0};
    if (user == n)
        return lb_fail(err, LB_E_USAGE, "there is no message to answer again");
    lb_json *before = lb_json_copy(&a, s->messages);
    lb_status st = before ? cut(s, user + 1, err) : no_memory(err);
    if (st == LB_OK) {
        st = answer(s, user + 1, err);
        if (s->messages->n == user + 1) /* none came: the old one stays */
            (void)lb_session_replace(s, before, before->n, NULL);
    }
    lb_arena_deinit(&a);
    return st;
}

/* ---- options ---- */

/* For the parser of options: /set. */
static const lb_command set_command = {
    .name = "/set", .group = {LB_GROUP_SAMPLING(0)}, .size_bytes = sizeof(lb_sampling_opts)};

lb_status lb_session_set(lb_session *s, const char *name, const char *value, lb_err *err) {
    lb_sampling_opts o = s->options;
    lb_sampling made = {0};
    lb_str key = lb_arena_str(&s->texts, lb_str_c(name));
    char *copy = (char *)(uintptr_t)key.ptr;
    lb_str text = value ? lb_arena_str(&s->texts, lb_str_c(value)) : LB_STR_NONE;
    if (!key.ptr || (value && !text.ptr))
        return no_memory(err);
    for (char *c = copy; *c; c++) /* top_k, as JSON and other programs have it */
        *c = *c == '_' ? '-' : *c;
    while (*copy == '-')
        copy++;
    LB_TRY(lb_opt_set(&set_command, copy, value ? text.ptr : NULL, &o, &s->texts, err));
    lb_status st = lb_sampling_check(&o, err);
    if (st == LB_OK)
        st = lb_sampling_open(&made, &s->x, &o, s->x.n_ctx, err);
    if (st != LB_OK) {
        lb_sampling_close(&made);
        return st;
    }
    lb_sampling_close(&s->sampling);
    s->sampling = made;
    s->options = o;
    return LB_OK;
}

static void put_value(const lb_opt *o, const void *field, u64 seed, lb_buf *out) {
    const lb_opt_list *list = field;
    const char *text = o->repeatable ? NULL : *(const char *const *)field;
    if (o->kind == LB_OPT_FLOAT) {
        lb_buf_printf(out, "%.7g", *(const double *)field);
    } else if (o->kind == LB_OPT_INT) {
        lb_buf_put_dec(out, *(const u64 *)field);
    } else if (o->repeatable) {
        for (u32 i = 0; i < list->n; i++) {
            lb_buf_put_c(out, i ? ", " : "");
            lb_json_write_str(out, lb_str_c(list->item[i]), false);
        }
        lb_buf_put_c(out, list->n ? "" : "-");
    } else if (strcmp(o->name, "seed") == 0) {
        lb_buf_put_dec(out, seed);
    } else {
        lb_buf_put_c(out, text ? text : "-");
    }
}

void lb_session_put_options(const lb_session *s, lb_buf *out) {
    for (u32 i = 0; i < LB_SAMPLING_OPTS; i++) {
        const lb_opt *o = &lb_sampling_rows[i];
        if (o->hidden || o->alias_of)
            continue;
        lb_buf_printf(out, "%-22s ", o->name);
        put_value(o, (const u8 *)&s->options + o->off, s->sampling.seed, out);
        lb_buf_put_c(out, "\n");
    }
}

/* ---- begin and end ---- */

lb_status lb_session_begin(lb_session *s, const char *system, lb_err *err) {
    bool heard;
    s->messages = lb_json_new_array(&s->arena);
    if (!s->messages)
        return no_memory(err);
    LB_TRY(lb_sampling_open(&s->sampling, &s->x, &s->options, s->x.n_ctx, err));
    LB_TRY(lb_thought_tokens(s->x.encoder, &s->shown, err));
    if (!system || !*system)
        return LB_OK;
    LB_TRY(lb_session_system(s, lb_str_c(system), &heard, err));
    if (!heard && !s->common->quiet)
        (void)fprintf(stderr, "lbrx: the chat template leaves the system message out\n");
    return LB_OK;
}

void lb_session_end(lb_session *s) {
    lb_sampling_close(&s->sampling);
    lb_drafting_close(&s->drafting);
    lb_talk_close(&s->talk);
    lb_infer_close(&s->x);
    lb_thought_deinit(&s->thought);
    lb_buf_deinit(&s->shown);
    lb_arena_deinit(&s->arena);
    lb_arena_deinit(&s->texts);
}

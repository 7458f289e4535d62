/* SPDX-License-Identifier: Apache-2.0 */
/* generate_lines.c: `lbrx generate MODEL --jsonl -f FILE`: a prompt a line, several of them at a
 * time, an answer a line in the same order. */
#include "cli/generate.h"
#include "ops/generate_many.h"
#include <stdio.h>

typedef struct line {
    u64 number; /* in the file, from 1 */
    const u32 *prompt;
    u32 n_prompt;
    u64 n, seed;
    bool seeded, done;
    lb_buf answer;
} line;

typedef struct lines {
    lb_infer *x;
    const lb_generate_cmd *o;
    lb_cli *cli;
    line *list;
    u64 n, n_printed;
    u32 n_seqs;
    lb_sampling *sampling; /* [n_seqs] */
    lb_drafting drafting;
} lines;

/* ---- prompts ---- */

static lb_status ids_of(lines *l, const lb_json *value, lb_arena *scratch, lb_buf *ids,
                        lb_err *err) {
    const lb_json *list = lb_json_get(value, "ids");
    lb_str text;
    if (list && list->type == LB_JARRAY)
        return lb_read_ids(list, ids, err);
    if (!lb_json_as_str(value, &text) && !lb_json_as_str(lb_json_get(value, "text"), &text) &&
        !lb_json_as_str(lb_json_get(value, "prompt"), &text))
        return lb_fail(err, LB_E_FORMAT,
                       "neither a string nor an object with \"text\", \"prompt\" or \"ids\"");
    return lb_generate_prompt(l->x, l->o, text, scratch, ids, err);
}

static lb_status check_ids(const lines *l, const lb_buf *ids, lb_err *err) {
    u32 n_vocab = lb_model_n_vocab(lb_loaded_model(l->x->loaded));
    for (size_t i = 0; i < ids->len; i += sizeof(u32))
        if (lb_load_u32(ids->ptr + i) >= n_vocab)
            return lb_fail(err, LB_E_FORMAT, "token %u: the model's vocabulary has %u",
                           lb_load_u32(ids->ptr + i), n_vocab);
    return LB_OK;
}

static lb_status count_of(const lb_json *value, const char *key, u64 max, u64 *out, bool *given,
                          lb_err *err) {
    const lb_json *v = lb_json_get(value, key);
    *given = v != NULL;
    if (v && (!lb_json_as_u64(v, out) || *out > max))
        return lb_fail(err, LB_E_FORMAT, "\"%s\": not a number from 0 to %llu", key,
                       (unsigned long long)max);
    return LB_OK;
}

static lb_status parse_line(lines *l, lb_str text, line *out, lb_err *err) {
    lb_arena scratch = {.max_bytes = 1024 * LB_MIB};
    lb_json *value;
    lb_buf ids = {0};
    bool given;
    out->n = l->o->n;
    lb_status st = lb_json_parse(text, l->o->file, &scratch, &value, err);
    if (st == LB_OK)
        st = count_of(value, "n", 1u << 26, &out->n, &given, err);
    if (st == LB_OK)
        st = count_of(value, "seed", UINT32_MAX, &out->seed, &out->seeded, err);
    if (st == LB_OK)
        st = ids_of(l, value, &scratch, &ids, err);
    if (st == LB_OK && !ids.len)
        st = lb_fail(err, LB_E_FORMAT, "the prompt is empty");
    if (st == LB_OK)
        st = check_ids(l, &ids, err);
    if (st == LB_OK) {
        out->n_prompt = (u32)(ids.len / sizeof(u32));
        out->prompt = lb_arena_push_array(&l->cli->arena, out->n_prompt, sizeof(u32), 8);
        if (out->prompt)
            memcpy((u8 *)(uintptr_t)out->prompt, ids.ptr, ids.len);
        else
            st = lb_fail(err, LB_E_NOMEM, "out of memory for prompts");
    }
    lb_buf_deinit(&ids);
    lb_arena_deinit(&scratch);
    return st;
}

/* The next line of the text, without its end. */
static lb_str next_line(lb_str *text) {
    const char *end = memchr(text->ptr, '\n', text->len);
    size_t n = end ? (size_t)(end - (const char *)text->ptr) : text->len;
    lb_str out = lb_str_sub(*text, 0, n);
    *text = lb_str_sub(*text, LB_MIN(n + 1, text->len), text->len);
    while (out.len && (out.ptr[out.len - 1] == '\r' || out.ptr[out.len - 1] == ' '))
        out.len--;
    return out;
}

static lb_status parse_all(lines *l, lb_str text, lb_err *err) {
    lb_str rest = text;
    u64 n = 0, number = 0;
    while (rest.len)
        n += next_line(&rest).len != 0;
    l->list = lb_arena_push_array(&l->cli->arena, LB_MAX(n, (u64)1), sizeof *l->list, 16);
    if (!l->list)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %llu prompts", (unsigned long long)n);
    memset(l->list, 0, n * sizeof *l->list);
    for (rest = text; rest.len;) {
        lb_str one = next_line(&rest);
        number++;
        if (!one.len)
            continue;
        line *to = &l->list[l->n];
        to->number = number;
        lb_status st = parse_line(l, one, to, err);
        if (st != LB_OK) {
            lb_err_context(err, "%s, line %llu", l->o->file, (unsigned long long)number);
            return st;
        }
        l->n++;
    }
    return LB_OK;
}

/* ---- answers ---- */

static lb_status begin(void *user, u64 item, u32 seq, lb_many_item *out, lb_err *err) {
    lines *l = user;
    const line *one = &l->list[item];
    lb_sampling *s = &l->sampling[seq];
    (void)err;
    lb_sampler_seed(s->sampler, one->seeded ? one->seed : l->sampling[0].seed);
    lb_sampler_reset(s->sampler);
    if (s->constraint)
        lb_constraint_reset(s->constraint);
    *out = (lb_many_item){one->prompt, one->n_prompt,
                          lb_generate_opts_of(l->x, l->o, s, one->n_prompt)};
    out->o.n_max = (u32)one->n;
    return LB_OK;
}

/* Prints what is next in order. */
static lb_status print_ready(lines *l, lb_err *err) {
    bool any = false;
    for (; l->n_printed < l->n && l->list[l->n_printed].done; l->n_printed++, any = true) {
        lb_buf *b = &l->list[l->n_printed].answer;
        LB_TRY(lb_buf_status(b, err));
        if (fwrite(b->ptr, 1, b->len, stdout) != b->len)
            return lb_fail(err, LB_E_IO, "stdout cannot be written");
        lb_buf_deinit(b);
    }
    if (any && fflush(stdout) != 0)
        return lb_fail(err, LB_E_IO, "stdout cannot be written");
    return LB_OK;
}

static lb_status end(void *user, u64 item, u32 seq, const lb_generated *g, bool ok, lb_err *err) {
    lines *l = user;
    line *one = &l->list[item];
    (void)seq;
    if (!ok)
        return LB_OK;
    lb_generate_put(&one->answer, l->o,
                    (lb_str){(const char *)one->prompt, one->n_prompt * sizeof(u32)}, g,
                    one->seeded ? one->seed : l->sampling[0].seed);
    one->done = true;
    return print_ready(l, err);
}

static lb_status open_session(lines *l, lb_err *err) {
    u64 room = 1;
    for (u64 i = 0; i < l->n; i++) {
        const line *one = &l->list[i];
        room = LB_MAX(room, lb_generate_room(l->x, l->o, one->n_prompt, one->n));
        if (l->o->infer.n_ctx && one->n_prompt > l->o->infer.n_ctx)
            return lb_fail(err, LB_E_LIMIT,
                           "%s, line %llu: the prompt has %u tokens, --ctx room for %llu",
                           l->o->file, (unsigned long long)one->number, one->n_prompt,
                           (unsigned long long)l->o->infer.n_ctx);
    }
    l->n_seqs = (u32)LB_MIN(l->o->parallel, LB_MAX(l->n, (u64)1));
    l->x->n_seqs = l->n_seqs;
    LB_TRY(lb_infer_context(l->x, room, err));
    l->sampling = lb_arena_push_array(&l->cli->arena, l->n_seqs, sizeof *l->sampling, 16);
    if (!l->sampling)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    memset(l->sampling, 0, l->n_seqs * sizeof *l->sampling);
    for (u32 i = 0; i < l->n_seqs; i++)
        LB_TRY(lb_sampling_open(&l->sampling[i], l->x, &l->o->sampling, l->x->n_ctx, err));
    return lb_drafting_open(&l->drafting, l->x, l->cli, &l->o->common, &l->o->drafting, err);
}

static void tell(const lines *l, const lb_many_result *r) {
    double s = (double)LB_MAX(r->us, (u64)1) / 1e6;
    if (!l->o->common.quiet)
        (void)fprintf(stderr,
                      "lbrx: %llu answers, %u at a time: %llu tokens in %.2f s, %.2f tokens/s; "
                      "%llu of %llu tokens of prompts read",
                      (unsigned long long)l->n, l->n_seqs, (unsigned long long)r->n_tokens, s,
                      (double)r->n_tokens / s, (unsigned long long)r->n_prompt_computed,
                      (unsigned long long)r->n_prompt);
    if (!l->o->common.quiet && r->n_drafted)
        (void)fprintf(stderr, "; %llu of %llu guessed tokens accepted",
                      (unsigned long long)r->n_accepted, (unsigned long long)r->n_drafted);
    if (!l->o->common.quiet)
        (void)fprintf(stderr, "\n");
}

lb_status lb_generate_lines(lb_infer *x, const lb_generate_cmd *o, lb_cli *cli, lb_err *err) {
    lines l = {.x = x, .o = o, .cli = cli};
    lb_many_result r = {0};
    lb_str text;
    LB_TRY(lb_generate_read(o->file, &cli->arena, &text, err));
    lb_status st = parse_all(&l, text, err);
    if (st == LB_OK && l.n)
        st = open_session(&l, err);
    if (st == LB_OK && l.n)
        st = lb_generate_many(x->context,
                              &(lb_many_opts){.n_items = l.n,
                                              .n_seqs = l.n_seqs,
                                              .draft = l.drafting.draft,
                                              .begin = begin,
                                              .end = end,
                                              .user = &l},
                              &r, err);
    if (st == LB_OK)
        tell(&l, &r);
    for (u32 i = 0; l.sampling && i < l.n_seqs; i++)
        lb_sampling_close(&l.sampling[i]);
    lb_drafting_close(&l.drafting);
    for (u64 i = 0; i < l.n; i++)
        lb_buf_deinit(&l.list[i].answer);
    return st;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_score.c: `lbrx score MODEL --jsonl`: log-probabilities of texts that are there. */
#include "cli/infer.h"
#include "ops/score.h"
#include <stdio.h>

typedef struct score_opts {
    lb_common common;
    lb_infer_opts infer;
    bool jsonl;
    u64 top;
} score_opts;

static const lb_opt rows[] = {
    {.name = "jsonl",
     .kind = LB_OPT_FLAG,
     .help = "read one JSON object a line from stdin, {\"ids\": [...]} or {\"text\": \"...\"}, and "
             "answer with one a line",
     .off = offsetof(score_opts, jsonl)},
    {.name = "top",
     .kind = LB_OPT_INT,
     .arg = "K",
     .max = 1000,
     .help = "also the K most likely tokens after each",
     .off = offsetof(score_opts, top)},
};

static lb_status ids_of(lb_infer *x, const lb_json *line, lb_buf *ids, lb_err *err) {
    const lb_json *list = lb_json_get(line, "ids");
    lb_str text;
    lb_buf_reset(ids);
    if (list && list->type == LB_JARRAY)
        return lb_read_ids(list, ids, err);
    if (!lb_json_as_str(lb_json_get(line, "text"), &text))
        return lb_fail(err, LB_E_FORMAT, "neither \"ids\" nor \"text\" is there");
    LB_TRY(lb_infer_tokenizer(x, err));
    return lb_encoder_encode(x->encoder, text, true, ids, err);
}

static void put_answer(lb_buf *out, const u32 *ids, u32 n, const double *logprob,
                       const lb_token_logprob *top, u32 k) {
    lb_buf_put_c(out, "{\"ids\":[");
    for (u32 i = 0; i < n; i++)
        lb_buf_printf(out, "%s%u", i ? "," : "", ids[i]);
    lb_buf_put_c(out, "],\"logprobs\":[");
    for (u32 i = 0; i < n; i++) {
        lb_buf_put_c(out, i ? "," : "null");
        if (i)
            lb_json_write_number(out, logprob[i]);
    }
    lb_buf_put_c(out, "]");
    if (k) {
        lb_buf_put_c(out, ",\"top\":[");
        for (u32 i = 0; i < n; i++) {
            lb_buf_put_c(out, i ? ",[" : "[");
            for (u32 t = 0; t < k; t++) {
                lb_buf_printf(out, "%s[%u,", t ? "," : "", top[(size_t)i * k + t].token);
                lb_json_write_number(out, top[(size_t)i * k + t].logprob);
                lb_buf_put_c(out, "]");
            }
            lb_buf_put_c(out, "]");
        }
        lb_buf_put_c(out, "]");
    }
    lb_buf_put_c(out, "}\n");
}

static lb_status score_line(lb_infer *x, lb_str text, u32 top, lb_buf *ids, lb_buf *out,
                            lb_err *err) {
    lb_arena arena = {.max_bytes = 1024 * LB_MIB};
    lb_json *line;
    u32 k = LB_MIN(top, lb_model_n_vocab(lb_loaded_model(x->loaded)));
    lb_status st = lb_json_parse(text, "stdin", &arena, &line, err);
    if (st == LB_OK)
        st = ids_of(x, line, ids, err);
    u32 n = (u32)(ids->len / sizeof(u32));
    double *logprob = lb_arena_new(&arena, double, n + 1ull);
    lb_token_logprob *probs = lb_arena_new(&arena, lb_token_logprob, (u64)n * k + 1);
    if (st == LB_OK && (!logprob || !probs))
        st = lb_fail(err, LB_E_NOMEM, "out of memory for %u tokens", n);
    if (st == LB_OK && n)
        st = lb_infer_context(x, n, err);
    if (st == LB_OK && n)
        st = lb_score(x->context, (const u32 *)(const void *)ids->ptr, n,
                      &(lb_score_opts){.n_top = k, .logprob = logprob, .top = probs}, err);
    if (st == LB_OK)
        put_answer(out, (const u32 *)(const void *)ids->ptr, n, logprob, probs, k);
    lb_arena_deinit(&arena);
    return st == LB_OK ? lb_buf_status(out, err) : st;
}

static lb_status score_all(lb_infer *x, u32 top, lb_err *err) {
    lb_buf line = {0}, ids = {0}, out = {0};
    lb_status st = LB_OK;
    bool end = false;
    u64 number = 0;
    while (st == LB_OK) {
        st = lb_read_line(&line, &end, err);
        if (st != LB_OK || end)
            break;
        number++;
        if (!line.len)
            continue;
        lb_buf_reset(&out);
        st = score_line(x, lb_buf_str(&line), top, &ids, &out, err);
        if (st != LB_OK)
            lb_err_context(err, "stdin, line %llu", (unsigned long long)number);
        else if (fwrite(out.ptr, 1, out.len, stdout) != out.len || fflush(stdout) != 0)
            st = lb_fail(err, LB_E_IO, "stdout cannot be written");
    }
    lb_buf_deinit(&line);
    lb_buf_deinit(&ids);
    lb_buf_deinit(&out);
    return st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    score_opts o = *(const score_opts *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    (void)n_args;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (!o.jsonl)
        return lb_fail(err, LB_E_USAGE, "score: --jsonl is needed: lines of JSON on stdin");
    x->any_device = true;
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK && !x->planned)
        st = score_all(x, (u32)o.top, err);
    lb_infer_close(x);
    return st;
}

const lb_command lb_cmd_score = {
    .name = "score",
    .summary = "Prints how likely each token of a text is.",
    .args = "MODEL",
    .examples = {{"token by token", "lbrx score model.gguf --jsonl --top 5 < texts.jsonl"}},
    .details = "logprobs[i] is that of ids[i] after those before it; top[i] is the distribution "
               "after reading ids[0..i]. Natural logarithms.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_INFER(offsetof(score_opts, infer)),
              LB_GROUP_GPUS(offsetof(score_opts, infer)),
              LB_GROUP_COMMON(offsetof(score_opts, common))},
    .size_bytes = sizeof(score_opts),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_perplexity.c: `lbrx perplexity MODEL -f TEXT`. */
#include "base/os.h"
#include "cli/infer.h"
#include "io/progress.h"
#include "ops/score.h"

#define TEXT_BYTES_MAX (1024 * LB_MIB)

typedef struct perplexity_opts {
    lb_common common;
    lb_infer_opts infer;
    const char *file;
    u64 n_chunks;
} perplexity_opts;

static const lb_opt rows[] = {
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "TEXT",
     .required = true,
     .help = "file with the text",
     .off = offsetof(perplexity_opts, file)},
    {.name = "chunks",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "only the first N chunks of --ctx tokens; all unless given",
     .off = offsetof(perplexity_opts, n_chunks)},
};

static lb_status encode_file(lb_infer *x, const char *path, lb_arena *arena, lb_buf *ids,
                             lb_err *err) {
    lb_str text;
    LB_TRY(lb_os_read_file(path, TEXT_BYTES_MAX, arena, &text, err));
    LB_TRY(lb_infer_tokenizer(x, err));
    return lb_encoder_encode(x->encoder, text, true, ids, err);
}

static lb_status measure(lb_infer *x, const perplexity_opts *o, const lb_buf *ids, lb_cli *cli,
                         lb_err *err) {
    lb_progress progress;
    lb_perplexity p;
    u32 bos = lb_encoder_special_id(x->encoder, "bos_token");
    LB_TRY(lb_infer_context(x, o->infer.n_ctx, err));
    lb_progress_begin(&progress, o->common.progress, "perplexity");
    lb_status st = lb_perplexity_run(
        x->context, (const u32 *)(const void *)ids->ptr, ids->len / sizeof(u32),
        &(lb_perplexity_opts){
            .n_ctx = (u32)o->infer.n_ctx,
            .n_chunks_max = (u32)o->n_chunks,
            .bos = lb_encoder_adds_bos(x->encoder) && bos != LB_NO_ID ? bos : LB_NO_INDEX,
            .progress = lb_progress_update,
            .user = &progress},
        &p, err);
    lb_progress_end(&progress);
    LB_TRY(st);
    if (o->common.json)
        lb_buf_printf(&cli->out,
                      "{\"perplexity\":%.9g,\"stderr\":%.6g,\"tokens\":%llu,\"ctx\":%llu}\n",
                      lb_perplexity_value(&p), lb_perplexity_stderr(&p),
                      (unsigned long long)p.n_tokens, (unsigned long long)o->infer.n_ctx);
    else
        lb_buf_printf(&cli->out, "perplexity %.4f +- %.4f (%llu tokens in %llu chunks of %llu)\n",
                      lb_perplexity_value(&p), lb_perplexity_stderr(&p),
                      (unsigned long long)p.n_tokens, (unsigned long long)p.n_chunks,
                      (unsigned long long)o->infer.n_ctx);
    return LB_OK;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    perplexity_opts o = *(const perplexity_opts *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    lb_buf ids = {0};
    (void)n_args;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (!o.infer.n_ctx)
        o.infer.n_ctx = 512;
    if (o.infer.n_ctx < 4)
        return lb_fail(err, LB_E_USAGE, "perplexity: --ctx: at least 4");
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK)
        st = encode_file(x, o.file, &cli->arena, &ids, err);
    if (st == LB_OK)
        st = measure(x, &o, &ids, cli, err);
    lb_infer_close(x);
    lb_buf_deinit(&ids);
    return st;
}

const lb_command lb_cmd_perplexity = {
    .name = "perplexity",
    .summary = "Measures how well a model predicts a text.",
    .args = "MODEL",
    .examples = {{"of a model", "lbrx perplexity model.gguf -f wiki.txt"},
                 {"of a merge that is not written", "lbrx perplexity merge.yml -f wiki.txt"}},
    .details = "The text is cut into chunks of --ctx tokens (512 unless given); of each the second "
               "half is scored, as llama-perplexity does it.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_INFER(offsetof(perplexity_opts, infer)),
              LB_GROUP_COMMON(offsetof(perplexity_opts, common))},
    .size_bytes = sizeof(perplexity_opts),
    .run = run,
};

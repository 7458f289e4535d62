/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_generate.c: `lbrx generate MODEL -p TEXT`: what a model goes on with. */
#include "base/interrupt.h"
#include "base/os.h"
#include "cli/infer.h"
#include "cli/text.h"
#include "ops/generate.h"
#include "text/chat.h"
#include <stdio.h>

#define PROMPT_BYTES_MAX (256 * LB_MIB)
#define CTX_USUAL 4096u

typedef struct generate_opts {
    lb_common common;
    lb_infer_opts infer;
    const char *prompt, *file;
    u64 n, top_k, seed;
    double temp, top_p, min_p, repeat;
    bool chat, ids, ignore_eos;
} generate_opts;

static const lb_opt rows[] = {
    {.name = "prompt",
     .short_name = 'p',
     .kind = LB_OPT_STR,
     .arg = "TEXT",
     .help = "the text to go on from",
     .off = offsetof(generate_opts, prompt)},
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the same from a file; - is standard input",
     .off = offsetof(generate_opts, file)},
    {.name = "n",
     .short_name = 'n',
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "256",
     .max = 1u << 26,
     .help = "tokens at most",
     .off = offsetof(generate_opts, n)},
    {.name = "temp",
     .kind = LB_OPT_FLOAT,
     .arg = "T",
     .initial = "0.8",
     .help = "temperature; 0: always the most likely token",
     .off = offsetof(generate_opts, temp)},
    {.name = "top-k",
     .kind = LB_OPT_INT,
     .arg = "K",
     .initial = "40",
     .max = 1u << 30,
     .help = "only the K most likely tokens; 0: all",
     .off = offsetof(generate_opts, top_k)},
    {.name = "top-p",
     .kind = LB_OPT_FLOAT,
     .arg = "P",
     .initial = "0.95",
     .help = "only the most likely tokens that together reach the probability P; 1: all",
     .off = offsetof(generate_opts, top_p)},
    {.name = "min-p",
     .kind = LB_OPT_FLOAT,
     .arg = "P",
     .initial = "0.05",
     .help = "only tokens of at least P times the largest probability; 0: all",
     .off = offsetof(generate_opts, min_p)},
    {.name = "repeat-penalty",
     .kind = LB_OPT_FLOAT,
     .arg = "R",
     .initial = "1",
     .help = "makes tokens of the last 64 less likely; 1: not",
     .off = offsetof(generate_opts, repeat)},
    {.name = "seed",
     .kind = LB_OPT_INT,
     .arg = "N",
     .help = "seed of the random numbers: the same seed, the same text, whatever the threads",
     .off = offsetof(generate_opts, seed)},
    {.name = "chat",
     .kind = LB_OPT_FLAG,
     .help = "the text is a user's message: the model's chat template is put around it",
     .off = offsetof(generate_opts, chat)},
    {.name = "ids",
     .kind = LB_OPT_FLAG,
     .help = "with --json: the token ids as well",
     .off = offsetof(generate_opts, ids)},
    {.name = "ignore-eos",
     .kind = LB_OPT_FLAG,
     .help = "go on behind tokens that end an answer",
     .off = offsetof(generate_opts, ignore_eos)},
};

static lb_status read_stdin(lb_arena *arena, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    char piece[65536];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, stdin)) > 0 && b.len <= PROMPT_BYTES_MAX)
        lb_buf_put(&b, piece, n);
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK && b.len > PROMPT_BYTES_MAX)
        st = lb_fail(err, LB_E_LIMIT, "stdin: a prompt of more than 256 MiB");
    if (st == LB_OK)
        *out = lb_arena_str(arena, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return st;
}

static lb_status prompt_text(const generate_opts *o, lb_arena *arena, lb_str *out, lb_err *err) {
    if (!o->prompt == !o->file)
        return lb_fail(err, LB_E_USAGE, "generate: either -p TEXT or -f FILE is needed");
    *out = lb_str_c(o->prompt ? o->prompt : "");
    if (o->prompt)
        return LB_OK;
    return strcmp(o->file, "-") == 0 ? read_stdin(arena, out, err)
                                     : lb_os_read_file(o->file, PROMPT_BYTES_MAX, arena, out, err);
}

/* One message in the model's chat template. */
static lb_status in_template(const lb_infer *x, lb_str text, lb_arena *arena, lb_buf *out,
                             lb_err *err) {
    lb_chat *chat = NULL;
    lb_json *list = lb_json_new_array(arena), *m = lb_json_new_object(arena);
    if (!lb_json_set(arena, m, "role", lb_json_new_str(arena, LB_STR("user"))) ||
        !lb_json_set(arena, m, "content", lb_json_new_str(arena, text)) || !lb_json_push(list, m))
        return lb_fail(err, LB_E_NOMEM, "out of memory for the prompt");
    LB_TRY(lb_chat_open(&chat, x->source, err));
    lb_status st = lb_chat_render(
        chat, &(lb_chat_input){.messages = list, .generation_prompt = true}, NULL, out, err);
    lb_chat_close(&chat);
    return st;
}

static lb_status make_prompt(lb_infer *x, const generate_opts *o, lb_arena *arena, lb_buf *ids,
                             lb_err *err) {
    lb_str text;
    lb_buf chat = {0};
    lb_encode_work *w = NULL;
    LB_TRY(prompt_text(o, arena, &text, err));
    lb_status st = lb_infer_tokenizer(x, err);
    if (st == LB_OK && o->chat) {
        st = in_template(x, text, arena, &chat, err);
        text = lb_buf_str(&chat);
    }
    if (st == LB_OK)
        st = lb_encode_work_new(&w, x->encoder, err);
    if (st == LB_OK) /* a template has the special tokens itself */
        st = lb_encode_run(w, text, o->chat ? 0 : LB_ENCODE_ADD, ids, err);
    lb_encode_work_free(&w);
    lb_buf_deinit(&chat);
    if (st == LB_OK && !ids->len)
        st = lb_fail(err, LB_E_USAGE,
                     "generate: the prompt is empty and the model begins with no "
                     "token of its own");
    return st;
}

static lb_status show(void *user, lb_str piece, lb_err *err) {
    (void)user;
    if (fwrite(piece.ptr, 1, piece.len, stdout) != piece.len || fflush(stdout) != 0)
        return lb_fail(err, LB_E_IO, "stdout cannot be written");
    return LB_OK;
}

static bool stop(void *user) {
    (void)user;
    return lb_interrupted();
}

static void put_ids(lb_buf *out, const char *key, const lb_buf *ids) {
    lb_buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < ids->len / sizeof(u32); i++)
        lb_buf_printf(out, "%s%u", i ? "," : "", lb_load_u32(ids->ptr + 4 * i));
    lb_buf_put_c(out, "],");
}

static double rate(u64 n, u64 us) {
    return us ? (double)n * 1e6 / (double)us : 0;
}

static void put_json(lb_buf *out, const generate_opts *o, const lb_buf *prompt,
                     const lb_generated *g) {
    u64 n = g->ids.len / sizeof(u32);
    lb_buf_put_c(out, "{");
    if (o->ids) {
        put_ids(out, "prompt_ids", prompt);
        put_ids(out, "ids", &g->ids);
    }
    lb_buf_put_c(out, "\"text\":");
    lb_json_write_str(out, lb_buf_str(&g->text), false);
    lb_buf_printf(out,
                  ",\"finish_reason\":\"%s\",\"timings\":{\"prompt_tokens\":%u,"
                  "\"prompt_seconds\":%.6f,\"prompt_tokens_per_second\":%.2f,"
                  "\"tokens\":%llu,\"seconds\":%.6f,\"tokens_per_second\":%.2f}}\n",
                  g->stopped ? "stop" : "length", g->n_prompt_computed, (double)g->prompt_us / 1e6,
                  rate(g->n_prompt_computed, g->prompt_us), (unsigned long long)n,
                  (double)g->generate_us / 1e6, rate(n, g->generate_us));
}

static lb_status make_sampler(const lb_infer *x, const generate_opts *o, lb_sampler **out,
                              lb_err *err) {
    lb_sample_opts s = lb_sample_defaults();
    s.seed = o->seed;
    s.temperature = (float)o->temp;
    s.top_k = (i32)o->top_k;
    s.top_p = (float)o->top_p;
    s.min_p = (float)o->min_p;
    s.penalty_repeat = (float)o->repeat;
    return lb_sampler_new(out, lb_model_n_vocab(lb_loaded_model(x->loaded)), &s, &x->kernels, err);
}

static lb_status generate(lb_infer *x, const generate_opts *o, lb_buf *prompt, lb_cli *cli,
                          lb_err *err) {
    lb_sampler *sampler = NULL;
    lb_generated g = {0};
    u64 n = prompt->len / sizeof(u32), trained = lb_model_n_ctx_train(lb_loaded_model(x->loaded));
    u64 room = o->infer.n_ctx ? o->infer.n_ctx : n + o->n;
    if (!o->infer.n_ctx && o->n >= CTX_USUAL)
        room = LB_MAX(n, LB_MIN(room, trained ? trained : CTX_USUAL));
    lb_status st = lb_infer_context(x, room, err);
    if (st == LB_OK)
        st = make_sampler(x, o, &sampler, err);
    if (st == LB_OK)
        st = lb_generate(x->context, (const u32 *)(const void *)prompt->ptr, (u32)n,
                         &(lb_generate_opts){.n_max = (u32)o->n,
                                             .sampler = sampler,
                                             .encoder = x->encoder,
                                             .ignore_end = o->ignore_eos,
                                             .text = o->common.json ? NULL : show,
                                             .stop = stop},
                         &g, err);
    if (st == LB_OK && o->common.json)
        put_json(&cli->out, o, prompt, &g);
    else if (st == LB_OK)
        lb_buf_put_c(&cli->out, "\n");
    lb_sampler_free(&sampler);
    lb_generated_deinit(&g);
    return st == LB_OK ? lb_interrupt_check(err) : st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    generate_opts o = *(const generate_opts *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    lb_buf ids = {0};
    (void)n_args;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (!o.prompt == !o.file)
        return lb_fail(err, LB_E_USAGE, "generate: either -p TEXT or -f FILE is needed");
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK)
        st = make_prompt(x, &o, &cli->arena, &ids, err);
    if (st == LB_OK)
        st = generate(x, &o, &ids, cli, err);
    lb_infer_close(x);
    lb_buf_deinit(&ids);
    return st;
}

const lb_command lb_cmd_generate = {
    .name = "generate",
    .summary = "Goes on from a text, or answers a message.",
    .args = "MODEL",
    .examples = {{"go on from a text", "lbrx generate model.gguf -p 'Once upon a time' -n 100"},
                 {"an answer", "lbrx generate model/ --chat -p 'What is the capital of France?'"},
                 {"a merge that is not written", "lbrx generate merge.yml -p 'Hello' --temp 0"}},
    .details =
        "The text is printed as it comes; ctrl-C ends it. MODEL is of any format; what must be "
        "computed first (a merge, an adapter, an encoding without kernels) goes to a temporary "
        "file once.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_INFER(offsetof(generate_opts, infer)),
              LB_GROUP_COMMON(offsetof(generate_opts, common))},
    .size_bytes = sizeof(generate_opts),
    .run = run,
};

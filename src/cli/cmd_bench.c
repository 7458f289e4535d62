/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench.c: `lbrx bench MODEL`: tokens a second of prompts and of generation, and how much of
 * the bandwidth of memory a generation uses. */
#include "base/interrupt.h"
#include "base/os.h"
#include "cli/infer.h"
#include "cli/text.h"
#include "model/partial.h"
#include "ops/bench.h"
#include <math.h>
#include <stdio.h>

#define LIST_MAX 32u
#define READ_BYTES_MAX (4096 * LB_MIB)

typedef struct bench_opts {
    lb_common common; /* its threads come from the list */
    lb_infer_opts infer;
    const char *prompts, *gens, *depths, *threads;
    lb_opt_list pairs;
    u64 reps, ttft;
    bool no_warm_up;
} bench_opts;

static const lb_opt rows[] = {
    {.name = "prompt",
     .short_name = 'p',
     .kind = LB_OPT_STR,
     .arg = "N,..",
     .initial = "512",
     .help = "tokens of prompts to read; 0: none",
     .off = offsetof(bench_opts, prompts)},
    {.name = "n",
     .short_name = 'n',
     .kind = LB_OPT_STR,
     .arg = "N,..",
     .initial = "128",
     .help = "tokens to generate; 0: none",
     .off = offsetof(bench_opts, gens)},
    {.name = "pg",
     .kind = LB_OPT_STR,
     .arg = "P,N",
     .repeatable = true,
     .help = "also a prompt of P tokens and then N generated, timed together",
     .off = offsetof(bench_opts, pairs)},
    {.name = "depth",
     .short_name = 'd',
     .kind = LB_OPT_STR,
     .arg = "N,..",
     .initial = "0",
     .help = "tokens that are there before, not timed",
     .off = offsetof(bench_opts, depths)},
    {.name = "reps",
     .short_name = 'r',
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "5",
     .min = 1,
     .max = 1000,
     .help = "how often each test runs",
     .off = offsetof(bench_opts, reps)},
    {.name = "threads",
     .short_name = 't',
     .kind = LB_OPT_STR,
     .arg = "N,..",
     .help = "numbers of threads, one after the other; all cores the process may use unless given",
     .off = offsetof(bench_opts, threads)},
    {.name = "ttft",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 20,
     .help = "first of all the time from the program's start to the first token behind a prompt of "
             "N tokens",
     .off = offsetof(bench_opts, ttft)},
    {.name = "no-warmup",
     .kind = LB_OPT_FLAG,
     .help = "no untimed run of some tokens before a test",
     .off = offsetof(bench_opts, no_warm_up)},
};

typedef struct list {
    u32 value[LIST_MAX];
    u32 n;
} list;

typedef struct bench {
    lb_infer x;
    const bench_opts *o;
    lb_cli *cli;
    list prompts, gens, depths, threads;
    lb_table table;
    u32 n_results;
} bench;

/* "512,1024" */
static lb_status read_list(const char *option, const char *text, u32 min, list *out, lb_err *err) {
    lb_str rest = lb_str_c(text);
    for (bool more = true; more;) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        lb_str word = comma ? lb_str_sub(rest, 0, (size_t)(comma - (const char *)rest.ptr)) : rest;
        u64 v;
        more = comma != NULL;
        rest = more ? lb_str_sub(rest, word.len + 1, rest.len) : rest;
        if (!lb_str_to_u64(word, &v) || v < min || v > 1u << 24)
            return lb_fail(err, LB_E_USAGE,
                           "bench: --%s: '%s' is no list of numbers from %u to %u such as 128,512",
                           option, text, min, 1u << 24);
        if (out->n == LIST_MAX)
            return lb_fail(err, LB_E_USAGE, "bench: --%s: more than %u numbers", option, LIST_MAX);
        out->value[out->n++] = (u32)v;
    }
    return LB_OK;
}

static lb_status read_lists(bench *b, u64 *n_threads, lb_err *err) {
    LB_TRY(read_list("prompt", b->o->prompts, 0, &b->prompts, err));
    LB_TRY(read_list("n", b->o->gens, 0, &b->gens, err));
    LB_TRY(read_list("depth", b->o->depths, 0, &b->depths, err));
    if (b->o->threads)
        LB_TRY(read_list("threads", b->o->threads, 1, &b->threads, err));
    for (u32 i = 0; i < b->threads.n; i++)
        *n_threads = LB_MAX(*n_threads, (u64)b->threads.value[i]);
    if (*n_threads > 1024)
        return lb_fail(err, LB_E_USAGE, "bench: --threads: at most 1024");
    return LB_OK;
}

/* ---- results ---- */

static void put_json(bench *b, const char *name, const double *rate, u32 n, double bandwidth) {
    lb_buf *out = &b->cli->out;
    lb_buf_printf(out, "%s{\"test\":\"%s\",\"tokens_per_second\":[", b->n_results ? "," : "[",
                  name);
    for (u32 i = 0; i < n; i++)
        lb_buf_printf(out, "%s%.3f", i ? "," : "", rate[i]);
    lb_buf_printf(out, "],\"threads\":%u,\"device\":\"%s\",\"peak_rss_bytes\":%llu", b->x.threads,
                  lb_infer_device(&b->x), (unsigned long long)lb_os_peak_rss());
    if (bandwidth > 0)
        lb_buf_printf(out, ",\"read_bytes_per_second\":%.0f", bandwidth);
}

static void mean_of(const double *x, u32 n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (u32 i = 0; i < n; i++)
        sum += x[i];
    *mean = sum / n;
    for (u32 i = 0; i < n; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *deviation = n > 1 ? sqrt(squares / (n - 1)) : 0;
}

/* bandwidth: bytes a second; 0: not measured. streamed: bytes of weights that were read from files
 * for a token; 0: none. */
static void put_result(bench *b, const char *name, const double *rate, u32 n, double bandwidth,
                       double streamed) {
    char size[LB_TEXT_BYTES];
    double mean, deviation, share = 0, bytes;
    mean_of(rate, n, &mean, &deviation);
    bytes = (double)lb_model_token_bytes(lb_loaded_model(b->x.loaded));
    if (bandwidth > 0)
        share = mean * bytes / bandwidth;
    if (b->o->common.json) {
        put_json(b, name, rate, n, bandwidth);
        if (bandwidth > 0)
            lb_buf_printf(&b->cli->out, ",\"bandwidth_share\":%.4f", share);
        if (streamed > 0)
            lb_buf_printf(&b->cli->out, ",\"streamed_bytes_per_token\":%.0f", streamed);
        lb_buf_put_c(&b->cli->out, "}");
    } else {
        lb_table_printf(&b->table, "%s", name);
        lb_table_printf(&b->table, "%u", b->x.threads);
        lb_table_printf(&b->table, "%.2f", mean);
        lb_table_printf(&b->table, "+- %.2f", deviation);
        if (bandwidth > 0)
            lb_table_printf(&b->table, "%.0f %% of %.1f GB/s", 100 * share, bandwidth / 1e9);
        else if (streamed > 0)
            lb_table_printf(&b->table, "%s a token from files", lb_size_text((u64)streamed, size));
        else
            lb_table_printf(&b->table, "%s", "");
    }
    b->n_results++;
}

static void put_head(bench *b, const char *arg) {
    char size[LB_TEXT_BYTES], token[LB_TEXT_BYTES];
    static const char *const heads[] = {"test", "threads", "tokens/s", "", "reads"};
    if (b->o->common.json)
        return;
    lb_put_safe(&b->cli->out, lb_os_base_name(lb_str_c(arg)));
    lb_buf_printf(&b->cli->out, ": weights of %s, a token reads %s; keys and values %s\n",
                  lb_size_text(lb_bench_weights_bytes(lb_loaded_weights(b->x.loaded)), size),
                  lb_size_text(lb_model_token_bytes(lb_loaded_model(b->x.loaded)), token),
                  ((const char *const[]){"f16", "q8_0", "q4_0", "f32"})[b->o->infer.kv_type]);
    for (u32 i = 0; i < LB_LEN(heads); i++)
        lb_table_printf(&b->table, "%s", heads[i]);
}

/* ---- tests ---- */

static lb_status bandwidth(bench *b, double *rate, lb_err *err) {
    return lb_bench_bandwidth(lb_loaded_weights(b->x.loaded), b->x.threads, READ_BYTES_MAX, rate,
                              err);
}

static lb_bench_opts run_opts(const bench *b) {
    return (lb_bench_opts){.n_reps = (u32)b->o->reps,
                           .warm_up = !b->o->no_warm_up,
                           .whole = b->x.resident != NULL,
                           .stop = lb_interrupt_stop};
}

/* That are read in all runs of a test. */
static u64 tokens_of(const bench *b, const lb_bench_test *t) {
    const lb_bench_opts o = run_opts(b);
    return lb_bench_warm_up(t, &o) + b->o->reps * ((u64)t->depth + t->n_prompt + t->n_gen);
}

static lb_status run_test(bench *b, const lb_bench_test *t, lb_err *err) {
    char name[LB_BENCH_NAME_BYTES];
    double *rate = lb_arena_new(&b->cli->arena, double, b->o->reps), read = 0, read_after = 0;
    bool reads = t->n_gen && !t->n_prompt && !b->x.resident; /* of the host's memory */
    lb_stream_figures before, after;
    const lb_bench_opts o = run_opts(b);
    if (!rate)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(lb_infer_context(&b->x, (u64)t->depth + t->n_prompt + t->n_gen, err));
    LB_TRY(lb_context_begin(b->x.context, err));
    lb_stream_tell(lb_model_stream(lb_loaded_model(b->x.loaded)), &before);
    reads = reads && (!before.streamed || before.copied);
    if (reads)
        LB_TRY(bandwidth(b, &read, err));
    LB_TRY(lb_bench_run(b->x.context, t, &o, rate, err));
    if (reads)
        LB_TRY(bandwidth(b, &read_after, err));
    lb_bench_name(t, name);
    lb_stream_tell(lb_model_stream(lb_loaded_model(b->x.loaded)), &after);
    u64 read_bytes = after.copied ? 0 : after.read_bytes - before.read_bytes;
    put_result(b, name, rate, (u32)b->o->reps, (read + read_after) / 2,
               (double)read_bytes / (double)tokens_of(b, t));
    return LB_OK;
}

/* From the program's start: what is measured is done once, and before all else. */
static lb_status time_to_first(bench *b, lb_err *err) {
    char name[LB_BENCH_NAME_BYTES];
    double rate;
    u64 n = b->o->ttft, us;
    if (!n)
        return LB_OK;
    if (lb_infer_tokenizer(&b->x, NULL) != LB_OK)
        lb_cli_log(b->cli, "the model has no tokenizer: time to first token is without one");
    LB_TRY(lb_infer_context(&b->x, n, err));
    LB_TRY(lb_bench_run(b->x.context, &(lb_bench_test){.n_prompt = (u32)n},
                        &(lb_bench_opts){.n_reps = 1, .stop = lb_interrupt_stop}, &rate, err));
    us = LB_MAX(lb_os_now_us() - b->cli->start_us, (u64)1);
    rate = (double)n * 1e6 / (double)us;
    if (b->o->common.json) {
        (void)snprintf(name, sizeof name, "ttft%llu", (unsigned long long)n);
        put_json(b, name, &rate, 1, 0);
        lb_buf_printf(&b->cli->out, ",\"seconds\":%.6f}", (double)us / 1e6);
        b->n_results++;
    } else {
        lb_buf_printf(&b->cli->out,
                      "from the start to the first token behind %llu, %u threads: %.3f s\n",
                      (unsigned long long)n, b->x.threads, (double)us / 1e6);
    }
    return LB_OK;
}

static lb_status run_pairs(bench *b, u32 depth, lb_err *err) {
    for (u32 i = 0; i < b->o->pairs.n; i++) {
        list pair = {.n = 0};
        LB_TRY(read_list("pg", b->o->pairs.item[i], 1, &pair, err));
        if (pair.n != 2)
            return lb_fail(err, LB_E_USAGE, "bench: --pg: '%s' is not P,N", b->o->pairs.item[i]);
        LB_TRY(run_test(b, &(lb_bench_test){pair.value[0], pair.value[1], depth}, err));
    }
    return LB_OK;
}

static lb_status run_tests(bench *b, lb_err *err) {
    for (u32 d = 0; d < b->depths.n; d++) {
        u32 depth = b->depths.value[d];
        for (u32 i = 0; i < b->prompts.n; i++)
            if (b->prompts.value[i])
                LB_TRY(run_test(b, &(lb_bench_test){b->prompts.value[i], 0, depth}, err));
        for (u32 i = 0; i < b->gens.n; i++)
            if (b->gens.value[i])
                LB_TRY(run_test(b, &(lb_bench_test){0, b->gens.value[i], depth}, err));
        LB_TRY(run_pairs(b, depth, err));
    }
    return LB_OK;
}

static lb_status run_all(bench *b, const char *arg, lb_err *err) {
    if (!b->threads.n)
        b->threads = (list){{b->x.threads}, 1};
    LB_TRY(time_to_first(b, err));
    put_head(b, arg);
    for (u32 i = 0; i < b->threads.n; i++) {
        lb_context_free(&b->x.context);
        b->x.threads = b->threads.value[i];
        LB_TRY(run_tests(b, err));
    }
    if (b->o->common.json)
        lb_buf_put_c(&b->cli->out, b->n_results ? "]\n" : "[]\n");
    else
        lb_table_end(&b->table, 0, &b->cli->out);
    return LB_OK;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    bench_opts o = *(const bench_opts *)opts;
    bench *b = lb_arena_new(&cli->arena, bench, 1);
    (void)n_args;
    if (!b)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    *b = (bench){.o = &o, .cli = cli, .table = {.n_columns = 5, .right = 2 | 4 | 8}};
    o.infer.n_ctx = 0;
    o.common.n_threads = 0;
    LB_TRY(read_lists(b, &o.common.n_threads, err));
    b->x.any_device = true;
    lb_status st = lb_infer_open(&b->x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK && !b->x.planned)
        st = run_all(b, args[0], err);
    if (st != LB_OK) /* no half of a list */
        lb_buf_reset(&cli->out);
    lb_buf_deinit(&b->table.text);
    lb_infer_close(&b->x);
    return st;
}

const lb_command lb_cmd_bench = {
    .name = "bench",
    .summary = "Measures how fast a model reads prompts and generates.",
    .args = "MODEL",
    .examples = {{"512 tokens read, 128 generated", "lbrx bench model.gguf"},
                 {"with one thread and with two, as JSON", "lbrx bench model/ -t 1,2 --json"},
                 {"how long the first token takes", "lbrx bench model.gguf --ttft 16 -p 0 -n 0"}},
    .details =
        "The tests are llama-bench's: pp512 reads a prompt of 512 tokens into an empty context, "
        "tg128 generates 128 tokens from an empty one, after an untimed run; each figure is the "
        "mean of --reps runs and its standard deviation. Beside a generation stands the share of "
        "the rate at which as many threads read the weights' pages by a plain loop, measured "
        "before and after it.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0),
              {.title = "Model",
               .opts = lb_infer_rows + 1, /* all but the first, the size of a context */
               .n = LB_INFER_OPTS - 1,
               .off = offsetof(bench_opts, infer)},
              LB_GROUP_GPUS(offsetof(bench_opts, infer)),
              {.title = "Common options",
               .opts = lb_common_opts + 1, /* all but the number of threads */
               .n = LB_COMMON_OPTS - 1,
               .off = offsetof(bench_opts, common)}},
    .size_bytes = sizeof(bench_opts),
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* infer.c: see infer.h. */
#include "cli/infer.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/sysinfo.h"
#include "cli/text.h"
#include "model/partial.h"
#include <stdio.h>

const lb_opt lb_infer_rows[LB_INFER_OPTS] = {
    {.name = "ctx",
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1u << 26,
     .help = "positions that the session has room for",
     .off = offsetof(lb_infer_opts, n_ctx)},
    {.name = "batch",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "256",
     .min = 1,
     .max = 65536,
     .help = "tokens that are computed at a time; on a GPU 2048 unless given, where it has room, "
             "4096 where it has much",
     .off = offsetof(lb_infer_opts, n_batch),
     .given_off = offsetof(lb_infer_opts, batch_given)},
    {.name = "kv-type",
     .kind = LB_OPT_ENUM,
     .arg = "f16|q8_0|q4_0|f32",
     .initial = "f16",
     .help = "type in which keys and values are kept",
     .off = offsetof(lb_infer_opts, kv_type)},
    {.name = "kv-rotate",
     .kind = LB_OPT_ENUM,
     .arg = "auto|on|off",
     .initial = "auto",
     .help = "rotate keys and values before they are rounded, which loses less; auto: where their "
             "type is quantized",
     .off = offsetof(lb_infer_opts, kv_rotate)},
    {.name = "exact",
     .kind = LB_OPT_FLAG,
     .help = "do not round activations where weights are quantized, else to eight bits, or sixteen "
             "where they are uneven: slower",
     .off = offsetof(lb_infer_opts, exact)},
    {.name = "fast",
     .kind = LB_OPT_FLAG,
     .help = "round all activations to eight bits where weights are quantized",
     .off = offsetof(lb_infer_opts, fast)},
    {.name = "repack",
     .kind = LB_OPT_FLAG,
     .help = "copy all weights into memory first, as much as they have, in large pages: slower to "
             "start, faster afterwards where the system keeps files in small ones",
     .off = offsetof(lb_infer_opts, repack)},
    {.name = "type",
     .kind = LB_OPT_STR,
     .arg = "TYPE",
     .help = "quantize the weights first, as `lbrx quantize --type` does, into temporary files",
     .off = offsetof(lb_infer_opts, type)},
};

static const lb_dtype kv_types[] = {LB_F16, LB_Q8_0, LB_Q4_0, LB_F32};

/* Before anything is computed. */
static void announce(void *user, u64 bytes) {
    const lb_infer *x = user;
    char size[LB_TEXT_BYTES];
    if (bytes > 64 * LB_MIB && !x->quiet)
        fprintf(stderr, "computing %s of weights first, in a temporary file in %s\n",
                lb_size_text(bytes, size), x->temp_dir);
}

/* They do not fit: how they are read from now on. */
static void tell_stream(void *user, const lb_stream *s) {
    const lb_infer *x = user;
    char all[LB_TEXT_BYTES], held[LB_TEXT_BYTES], read[LB_TEXT_BYTES];
    lb_stream_figures f;
    lb_stream_tell(s, &f);
    if (x->quiet)
        return;
    if (f.copied) {
        fprintf(stderr, "weights of %s are copied into memory\n",
                lb_size_text(f.memory_bytes, held));
        return;
    }
    fprintf(stderr, "weights of %s do not fit: %s of memory for them",
            lb_size_text(f.weights_bytes, all), lb_size_text(f.memory_bytes, held));
    if (f.pass_bytes)
        fprintf(stderr, ", %s read for each token or batch", lb_size_text(f.pass_bytes, read));
    if (f.expert_bytes)
        fprintf(stderr, ", experts of %s read as they are chosen, %llu of %llu stay",
                lb_size_text(f.expert_bytes, read), (unsigned long long)f.n_expert_slots,
                (unsigned long long)f.n_experts);
    fprintf(stderr, "\n");
}

/* --memory, as far as the user has given it, is for all of the process. Else weights have what the
 * system can give, where that is not enough for them beside the usual budget. */
static void limit_memory(lb_infer *x) {
    u64 weights = lb_loaded_mapped_bytes(x->loaded) + lb_loaded_made_bytes(x->loaded);
    u64 total = x->memory_bytes, left = x->memory_given ? 0 : lb_sys_memory_left("");
    if (!x->memory_given) {
        if (left > total && weights <= left - total && !x->opts.repack)
            return;
        total = left - left / 16;
    }
    x->heap_bytes = LB_MAX(total, x->memory_bytes);
    (void)lb_cli_limit_heap(x->heap_bytes);
    x->limit = (lb_stream_limit){total, x->process_bytes, x->opts.repack, tell_stream, x};
    lb_model_limit(lb_loaded_model(x->loaded), &x->limit);
}

void lb_infer_leave(lb_infer *x, u64 bytes) {
    if (!x->limit.total_bytes)
        return;
    (void)lb_cli_limit_heap(x->heap_bytes); /* opening another model may have set its own */
    x->limit.total_bytes -= LB_MIN(bytes, x->limit.total_bytes - 1);
    lb_model_limit(lb_loaded_model(x->loaded), &x->limit);
}

static void progress(void *user, u64 done, u64 total) {
    lb_infer *x = user;
    lb_progress_update(&x->progress, done, total);
}

static lb_source *weights_source(const lb_infer *x) {
    return x->made.source ? x->made.source : x->source;
}

bool lb_infer_is_gguf(const lb_infer *x) {
    return weights_source(x)->format == LB_FORMAT_GGUF;
}

static lb_status load(lb_infer *x, const lb_common *common, lb_err *err) {
    lb_load_opts lo = {.kernels = &x->kernels,
                       .threads = x->threads,
                       .memory_bytes = LB_MIN(common->memory_bytes / 2, 256 * LB_MIB),
                       .temp_dir = x->temp_dir,
                       .stop = lb_interrupt_stop,
                       .announce = announce,
                       .progress = progress,
                       .user = x};
    lb_progress_begin(&x->progress, common->progress, "compute");
    lb_status st = lb_load(&x->loaded, weights_source(x), &lo, err);
    lb_progress_end(&x->progress);
    return st;
}

/* What a device cannot do: said once a run, however many sessions find it. */
static void warn(void *user, const char *text) {
    lb_infer *x = user;
    if (!x->quiet)
        fprintf(stderr, "warning: %s\n", text);
}

static lb_context_opts context_opts(lb_infer *x) {
    const u32 n_batch = (u32)x->opts.n_batch;
    return (lb_context_opts){.n_ctx = x->n_ctx,
                             .n_seqs = x->n_seqs,
                             .n_batch = x->gpus.n && !x->opts.batch_given ? 0 : n_batch,
                             .threads = x->threads,
                             .kv_type = kv_types[x->opts.kv_type],
                             .kv_rotate = (lb_kv_rotate)x->opts.kv_rotate,
                             .acts = x->opts.exact  ? LB_ACTS_EXACT
                                     : x->opts.fast ? LB_ACTS_FAST
                                     : x->resident  ? LB_ACTS_AUTO
                                                    : x->acts,
                             .tap = x->resident && !x->sums ? NULL : x->tap,
                             .tap_user = x->tap_user,
                             .sums = x->sums,
                             .warn = warn,
                             .warn_user = x,
                             .scratch_bytes = x->scratch_bytes,
                             .resident = x->resident};
}

/* ---- the device ---- */

/* Before a file is opened: one that is not there is said at once. */
static lb_status open_device(lb_infer *x, lb_common *common, const lb_infer_opts *o, lb_err *err) {
    LB_TRY((x->any_device ? lb_common_finish_devices : lb_common_finish)(common, err));
    lb_common own = *common; /* what only the CPU does is the CPU's without asking for a GPU */
    own.choice.is_auto = own.choice.is_auto && x->any_device && !o->fast && !o->repack;
    return lb_gpus_open(&x->gpus, &own, &o->gpu, err);
}

/* The CPU computes from here on. */
static void leave_devices(lb_infer *x, const lb_err *why) {
    lb_context_free(&x->context);
    lb_resident_free(&x->resident);
    lb_gpus_fall_back(&x->gpus, x->quiet, why);
}

#define CTX_EXPECTED 4096u /* positions for which devices leave room, where nobody says */

static lb_status put_on_devices(lb_infer *x, lb_cli *cli, const lb_common *common, lb_err *err) {
    const lb_model *m = lb_loaded_model(x->loaded);
    const u32 trained = lb_model_n_ctx_train(m);
    lb_context_opts session = context_opts(x);
    session.n_ctx =
        x->opts.n_ctx ? (u32)x->opts.n_ctx : LB_MIN(trained ? trained : CTX_EXPECTED, CTX_EXPECTED);
    x->planned = x->opts.gpu.dry_run;
    if (x->planned)
        return lb_gpus_show(&x->gpus, cli, m, &session, common,
                            lb_loaded_mapped_bytes(x->loaded) + lb_loaded_made_bytes(x->loaded),
                            err);
    const u64 begun = lb_os_now_us();
    LB_TRY(lb_gpus_put(&x->gpus, &x->resident, m, &session, common, err));
    const double us = (double)(lb_os_now_us() - begun);
    if (x->resident)
        lb_cli_log(cli, "%s: %llu bytes of weights in %.3f s, %.1f GB/s", x->gpus.text,
                   (unsigned long long)lb_resident_bytes(x->resident), us * 1e-6,
                   (double)lb_resident_bytes(x->resident) / us * 1e-3);
    return LB_OK;
}

const char *lb_infer_device(const lb_infer *x) {
    return x->resident ? x->gpus.text : "cpu";
}

lb_status lb_infer_open(lb_infer *x, lb_cli *cli, lb_common *common, const lb_infer_opts *o,
                        const char *arg, lb_err *err) {
    LB_TRY(open_device(x, common, o, err));
    if (x->gpus.n && o->repack)
        return lb_fail(err, LB_E_USAGE, "--repack: weights go to %s: leave it out", common->device);
    x->opts = *o;
    x->threads = (u32)common->n_threads;
    x->quiet = common->quiet;
    x->temp_dir = lb_run_folder(&cli->arena);
    lb_kernels_init(&x->kernels, cli->isa_mask);
    x->memory_bytes = common->memory_bytes;
    x->memory_given = common->memory_given;
    x->process_bytes = lb_cli_limit_heap(common->memory_bytes);
    LB_TRY(lb_cli_open_planned(cli, common, &x->source, arg, err));
    if (o->type)
        LB_TRY(lb_made_make(&x->made, cli, common, &x->kernels, x->source, o->type, err));
    lb_status st = load(x, common, err);
    if (o->type)
        lb_made_forget(&x->made);
    if (st == LB_OK && (x->gpus.n || o->gpu.dry_run))
        st = put_on_devices(x, cli, common, err);
    if (lb_gpus_may_fall_back(&x->gpus, st)) {
        leave_devices(x, err);
        st = o->gpu.dry_run ? put_on_devices(x, cli, common, err) : LB_OK;
    }
    if (st == LB_OK && !x->resident)
        limit_memory(x);
    return st;
}

void lb_infer_close(lb_infer *x) {
    lb_context_free(&x->context);
    lb_resident_free(&x->resident);
    lb_gpus_close(&x->gpus);
    lb_encoder_close(&x->encoder);
    lb_loaded_free(&x->loaded);
    lb_source_close(&x->made.source);
    lb_source_close(&x->source);
}

lb_status lb_infer_tokenizer(lb_infer *x, lb_err *err) {
    return x->encoder ? LB_OK : lb_encoder_open(&x->encoder, x->source, err);
}

lb_status lb_infer_encode_file(lb_infer *x, const char *path, lb_buf *ids, lb_err *err) {
    lb_arena arena = {0};
    lb_str text;
    lb_status st = lb_os_read_file(path, LB_INFER_TEXT_MAX, &arena, &text, err);
    if (st == LB_OK)
        st = lb_infer_tokenizer(x, err);
    if (st == LB_OK)
        st = lb_encoder_encode(x->encoder, text, true, ids, err);
    lb_arena_deinit(&arena);
    return st;
}

u32 lb_infer_bos(const lb_infer *x) {
    u32 bos = lb_encoder_special_id(x->encoder, "bos_token");
    return lb_encoder_adds_bos(x->encoder) && bos != LB_NO_ID ? bos : LB_NO_INDEX;
}

/* Its buffers do not fit: the least that would do. */
static lb_status refuse_context(lb_infer *x, lb_err *err) {
    const lb_context_opts o = context_opts(x);
    lb_mem_limit(0); /* lists of a few KiB */
    lb_status st = lb_context_check_memory(lb_loaded_model(x->loaded), &o, err);
    if (x->heap_bytes)
        (void)lb_cli_limit_heap(x->heap_bytes);
    return st == LB_E_LIMIT
               ? st
               : lb_fail(err, LB_E_LIMIT,
                         "a session of %u positions does not fit --memory: give it more, or use a "
                         "smaller --ctx or --batch",
                         x->n_ctx);
}

/* Before the first session on GPUs: a token goes through the model, and the kernels that made it
 * are compared with the CPU's. Those of the CPU are, in tests. */
static lb_status probe(lb_infer *x, lb_err *err) {
    const u32 n_vocab = lb_model_n_vocab(lb_loaded_model(x->loaded)), id = 0;
    if (lb_dev_info_get(x->gpus.dev[0])->kind == LB_DEV_CPU)
        return LB_OK;
    float *logits = lb_alloc((size_t)n_vocab * sizeof *logits), range[2];
    if (!logits)
        return lb_fail(err, LB_E_NOMEM, "out of memory for logits");
    lb_status st = lb_context_eval(x->context, &(lb_batch){.n = 1, .id = &id}, logits, err);
    if (st == LB_OK && x->kernels.fold_range_f32(n_vocab, logits, range))
        st = lb_fail(err, LB_E_DIFFERENT, "%s: logits are no numbers", lb_gpus_name(&x->gpus, 0));
    lb_free(logits);
    if (st == LB_OK)
        st = lb_gpus_probe(&x->gpus, err);
    x->probed = st == LB_OK;
    return st == LB_OK && !lb_context_cut(x->context, 0, 0)
               ? lb_fail(err, LB_E_UNSUPPORTED, "a session does not go back to its beginning")
               : st;
}

#define BATCH_LEAST 16u

/* Where a device has no room for it, with smaller batches. */
static lb_status fitting_context(lb_infer *x, lb_err *err) {
    lb_context_opts o = context_opts(x);
    lb_err first;
    lb_status st = lb_context_new(&x->context, lb_loaded_model(x->loaded), &o, err);
    if (!x->resident || (st != LB_E_NOMEM && st != LB_E_LIMIT))
        return st;
    first = *err;
    for (o.n_batch = LB_MIN((u32)x->opts.n_batch, o.n_ctx) / 2; o.n_batch >= BATCH_LEAST;
         o.n_batch /= 2) {
        st = lb_context_new(&x->context, lb_loaded_model(x->loaded), &o, err);
        if (st != LB_OK)
            continue;
        if (!x->quiet)
            fprintf(stderr, "note: batches of %u tokens: %s has no room for more\n", o.n_batch,
                    lb_infer_device(x));
        x->opts.n_batch = o.n_batch;
        return LB_OK;
    }
    *err = first;
    return first.code;
}

static lb_status new_context(lb_infer *x, lb_err *err) {
    lb_status st = fitting_context(x, err);
    if (st == LB_OK && x->resident && !x->probed)
        st = probe(x, err);
    if (!x->resident || !lb_gpus_may_fall_back(&x->gpus, st))
        return st;
    leave_devices(x, err);
    limit_memory(x);
    const lb_context_opts o = context_opts(x);
    return lb_context_new(&x->context, lb_loaded_model(x->loaded), &o, err);
}

lb_status lb_infer_context(lb_infer *x, u64 n_ctx, lb_err *err) {
    u64 want = LB_MAX(n_ctx, x->opts.n_ctx);
    if (x->context && want <= x->n_ctx)
        return LB_OK;
    if (x->opts.n_ctx && n_ctx > x->opts.n_ctx)
        return lb_fail(err, LB_E_LIMIT, "%llu positions: --ctx %llu has no room for them",
                       (unsigned long long)n_ctx, (unsigned long long)x->opts.n_ctx);
    if (want > 1u << 26)
        return lb_fail(err, LB_E_LIMIT, "%llu positions are more than a session may have",
                       (unsigned long long)want);
    lb_context_free(&x->context);
    x->n_ctx = (u32)want;
    lb_status st = new_context(x, err);
    return st == LB_E_NOMEM && lb_mem_refused() ? refuse_context(x, err) : st;
}

lb_status lb_infer_beside(lb_infer *x, lb_context **out, lb_err *err) {
    lb_context_opts o = context_opts(x);
    o.resident = NULL;
    o.sums = false;
    o.tap = x->tap;
    o.n_batch = (u32)x->opts.n_batch;
    return lb_context_new(out, lb_loaded_model(x->loaded), &o, err);
}

lb_status lb_read_line(lb_buf *buf, bool *end, lb_err *err) {
    char piece[4096];
    lb_buf_reset(buf);
    *end = false;
    for (;;) {
        if (!fgets(piece, sizeof piece, stdin)) {
            if (ferror(stdin))
                return lb_fail(err, LB_E_IO, "stdin cannot be read");
            *end = buf->len == 0;
            return lb_buf_status(buf, err);
        }
        size_t n = strlen(piece);
        bool whole = n && piece[n - 1] == '\n';
        n -= whole;
        lb_buf_put(buf, piece, whole && n && piece[n - 1] == '\r' ? n - 1 : n);
        if (buf->len > LB_LINE_MAX)
            return lb_fail(err, LB_E_LIMIT, "stdin: a line of more than 64 MiB");
        if (whole)
            return lb_buf_status(buf, err);
    }
}

lb_status lb_read_ids(const lb_json *list, lb_buf *ids, lb_err *err) {
    u64 id;
    for (const lb_json *v = list->first; v; v = v->next) {
        if (!lb_json_as_u64(v, &id) || id > UINT32_MAX)
            return lb_fail(err, LB_E_FORMAT, "\"ids\": not a list of token ids");
        lb_buf_put_u32(ids, (u32)id);
    }
    return lb_buf_status(ids, err);
}

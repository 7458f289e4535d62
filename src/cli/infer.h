/* SPDX-License-Identifier: Apache-2.0 */
/* infer.h: what all commands share that run a model: their options, the model, its tokenizer. */
#ifndef LB_CLI_INFER_H
#define LB_CLI_INFER_H

#include "cli/gpus.h"
#include "cli/made.h"
#include "io/json.h"
#include "model/resident.h"
#include "ops/load.h"
#include "text/encode.h"

typedef struct lb_infer_opts {
    u64 n_ctx, n_batch;
    u32 kv_type;   /* index of "f16|q8_0|q4_0|f32" */
    u32 kv_rotate; /* index of "auto|on|off" */
    bool exact, fast, repack;
    bool batch_given; /* else n_batch is the CPU's */
    const char *type; /* NULL: as it is stored */
    lb_gpu_opts gpu;  /* of commands that have LB_GROUP_GPUS */
} lb_infer_opts;

#define LB_INFER_OPTS 8
extern const lb_opt lb_infer_rows[LB_INFER_OPTS];
#define LB_GROUP_INFER(offset) \
    { .title = "Model", .opts = lb_infer_rows, .n = LB_INFER_OPTS, .off = (offset) }

#define LB_GROUP_GPUS(offset)                                      \
    {                                                              \
        .title = "Devices", .opts = lb_gpu_rows, .n = LB_GPU_OPTS, \
        .off = (offset) + offsetof(lb_infer_opts, gpu)             \
    }

typedef struct lb_infer {
    lb_kernels kernels;
    lb_source *source;  /* texts come from here */
    lb_made_model made; /* weights come from here, with --type */
    lb_loaded *loaded;
    lb_encoder *encoder; /* NULL until lb_infer_tokenizer */
    lb_context *context;
    lb_tap_fn *tap; /* of contexts that are made, on devices where there are sums; NULL: none */
    void *tap_user;
    bool sums;             /* lb_context_opts.sums */
    u64 scratch_bytes;     /* of their threads, at least */
    u32 n_ctx;             /* of the context */
    u32 n_seqs;            /* that it is to have; 0: one */
    lb_act_mode acts;      /* on the CPU, without --exact and --fast */
    bool any_device;       /* the command computes on any device; set before it is opened */
    lb_gpus gpus;          /* none: the CPU */
    lb_resident *resident; /* the model's weights there */
    bool probed;           /* what the devices make is right, or nobody asked */
    bool planned;          /* --dry-run: what lies where is in the result, and that is all */
    lb_infer_opts opts;
    u32 threads;
    u64 memory_bytes, process_bytes; /* --memory; of it, what the process had at first */
    bool memory_given;
    lb_stream_limit limit; /* of the process, weights included; total_bytes 0: none */
    u64 heap_bytes;        /* where there is one: of its heap */
    bool quiet;
    const char *temp_dir;
    lb_progress progress; /* while it is loaded */
} lb_infer;

/* Opens and loads; what must be computed first is said on stderr, with its size. */
lb_status lb_infer_open(lb_infer *x, lb_cli *cli, lb_common *common, const lb_infer_opts *o,
                        const char *arg, lb_err *err);
/* So much of the memory is for others than this model and its session: before its first batch. */
void lb_infer_leave(lb_infer *x, u64 bytes);
void lb_infer_close(lb_infer *x);
/* The weights, with --type those that were made, are a GGUF's. */
bool lb_infer_is_gguf(const lb_infer *x);
lb_status lb_infer_tokenizer(lb_infer *x, lb_err *err);
#define LB_INFER_TEXT_MAX (1024 * LB_MIB)
/* Tokens of a file's text, with what the tokenizer puts around it, appended to ids. */
lb_status lb_infer_encode_file(lb_infer *x, const char *path, lb_buf *ids, lb_err *err);
/* The token that the tokenizer puts before a text; LB_NO_INDEX: none. It must be open. */
u32 lb_infer_bos(const lb_infer *x);
/* "cpu", or the devices that compute: "cuda:0", "cpu,cuda:0,cuda:1". */
const char *lb_infer_device(const lb_infer *x);
/* A session of at least so many positions; an old one that is too small is given up. */
lb_status lb_infer_context(lb_infer *x, u64 n_ctx, lb_err *err);
/* The CPU's session beside that of devices, with as many positions. */
lb_status lb_infer_beside(lb_infer *x, lb_context **out, lb_err *err);

/* ---- lines of stdin ---- */
#define LB_LINE_MAX (64 * LB_MIB)
/* The next line without its end, in buf; *end: there was none. LB_E_LIMIT: too long. */
lb_status lb_read_line(lb_buf *buf, bool *end, lb_err *err);
/* A JSON array of token ids, appended to ids. */
lb_status lb_read_ids(const lb_json *list, lb_buf *ids, lb_err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* sensitivity.h: what a model loses when one tensor alone is quantized, for each tensor and type:
 * the mean divergence KL(model || model with the tensor in that type) of the next token, in nats.
 *
 * It could be had by running the model once for each tensor and type. Cheaper, and as near as a sum
 * of such figures needs: the tensor's inputs x are recorded; of each type the local error
 *
 *     E = mean over tokens of |(Q(W) - W) x|^2 / (|W x|^2 + g)
 *
 * is computed exactly, on the inputs that the tensor really meets (g: the geometric mean of |W
 * x|^2: some tokens, the first above all, have products a thousand times as large, whose errors
 * alone a plain mean would tell of, and the norms that follow divide by their size); for a few
 * types (the anchors) the states before the tensor's layer, which are kept, are run through the
 * rest of the model with Q(W) in place of W, which gives their KL exactly. KL is a quadratic form
 * of a small perturbation, so of one tensor it is about proportional to E: other types follow from
 * the anchors on a straight line of log KL over log E between neighbours, and in proportion to E
 * beyond the outermost. Tensors outside the layers (the head, the table of embeddings) are run for
 * every type.
 *
 * The text is that of perplexity: chunks of n_ctx tokens, the second half of each counts. Memory: a
 * session, two rows of logits for each token at a time; states, logits and the tensor in its other
 * form lie in temporary files. Results depend neither on threads nor on memory. */
#ifndef LB_OPS_SENSITIVITY_H
#define LB_OPS_SENSITIVITY_H

#include "model/partial.h"
#include "ops/importance.h"

#define LB_SENSITIVITY_TYPES_MAX 32

typedef struct lb_sensitivity_tensor {
    lb_str name; /* GGUF's */
    lb_shape shape;
    double *kl;    /* [n_types] nats a token; NaN: it cannot have the type */
    double *error; /* [n_types] E; NaN: not measured */
    bool *run;     /* [n_types] kl was measured by running */
} lb_sensitivity_tensor;

typedef struct lb_sensitivity {
    lb_str arch; /* of the metadata */
    lb_dtype types[LB_SENSITIVITY_TYPES_MAX];
    u32 n_types;
    lb_sensitivity_tensor *tensors;
    u64 n_tensors;
    u64 n_ctx, n_chunks, n_scored;
    double nll; /* sum over the scored tokens, of the model as it is */
    lb_str text, imatrix;
    bool refine;
} lb_sensitivity;

typedef struct lb_sensitivity_opts {
    const lb_mweights *weights; /* of the model, with its metadata */
    const lb_gguf_meta *meta;
    const lb_kernels *kernels;
    u32 n_ctx, n_chunks, bos; /* bos: LB_NO_INDEX: none */
    u32 n_anchors;            /* of each tensor of a layer; 0: all types */
    bool refine;
    const lb_importance *importance; /* NULL: none */
    struct lb_quant_device *encoder; /* quantizes what it takes (plan/encoder.h); NULL: nothing */
    /* Whether a tensor is to be measured; NULL: all that llama-quantize quantizes. */
    bool (*wanted)(void *user, lb_str name);
    const char *temp_dir;                              /* NULL: TMPDIR, else /tmp */
    void (*progress)(void *user, u64 done, u64 total); /* layers run; may be NULL */
    void *user;
} lb_sensitivity_opts;

typedef struct lb_sensor lb_sensor;

/* Lists the tensors of the model with the types in s->types; perm gets the results. LB_E_USAGE:
 * nothing is wanted. */
lb_status lb_sensor_new(lb_sensor **out, lb_sensitivity *s, const lb_sensitivity_opts *o,
                        lb_arena *perm, lb_err *err);
void lb_sensor_free(lb_sensor **s);
/* For the session: its tap (the sensor is the tap's user) and the least of scratch_bytes for
 * batches of so many tokens. */
lb_tap_fn lb_sensor_tap;
u64 lb_sensor_scratch_bytes(const lb_sensor *s, u32 n_batch);
/* Fills the results. c: a session of the CPU, whose tap the sensor is. run: the one that the model
 * is run by, the same or one on a device (lb_context_can_part): inputs and local errors are the
 * CPU's in any case. LB_E_USAGE: the text is too short; LB_E_FORMAT: values that have no code. */
lb_status lb_sensor_run(lb_sensor *s, lb_context *c, lb_context *run, const u32 *ids, u64 n,
                        lb_err *err);

/* ---- sensitivity_file.c ---- */

/* JSON; one object. */
void lb_sensitivity_write(const lb_sensitivity *s, lb_buf *out);
/* what: the file's name. LB_E_FORMAT: what of it is wrong. */
lb_status lb_sensitivity_parse(lb_str text, const char *what, lb_arena *perm, lb_sensitivity *out,
                               lb_err *err);
/* NULL: it has none of the name. */
const lb_sensitivity_tensor *lb_sensitivity_find(const lb_sensitivity *s, lb_str name);
/* False: it was not measured. */
bool lb_sensitivity_type(const lb_sensitivity *s, lb_dtype t, u32 *at);

#endif

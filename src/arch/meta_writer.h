/* SPDX-License-Identifier: Apache-2.0 */
/* meta_writer.h: what writes a row of a family's metadata. For meta_rows.c (what GGUF holds) and
 * meta_run.c (what only an evaluation of a folder reads). */
#ifndef LB_ARCH_META_WRITER_H
#define LB_ARCH_META_WRITER_H

#include "arch/arch_internal.h"

#define LB_META_KEY_MAX 128

typedef struct lb_meta_writer {
    const lb_arch *arch;
    const lb_arch_normal *n;
    const lb_arch_meta_in *in; /* NULL: no general.* */
    lb_gguf_meta *out;
    bool run; /* also what only an evaluation reads */
} lb_meta_writer;

/* "<arch>." before the key, in buf (LB_META_KEY_MAX), where the key has no group of its own. */
const char *lb_meta_full_key(const lb_meta_writer *w, const char *key, char *buf);
/* v under the row's key and type, times its scale. */
lb_status lb_meta_put_value(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                            lb_err *err);
/* Whether v is the JSON scalar that `want` spells. */
bool lb_meta_is_value(const lb_json *v, lb_str want);
/* LB_KV_ROPE_MSCALE. */
lb_status lb_meta_put_mscale(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err);

/* ---- for evaluation (meta_run.c) ---- */

/* LB_KV_RUN, LB_KV_RUN_SCALE, LB_KV_RUN_WINDOW; nothing unless w->run. */
lb_status lb_meta_run_value(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                            lb_err *err);
lb_status lb_meta_run_scale(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                            lb_err *err);
lb_status lb_meta_run_window(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err);
/* LB_KV_PERIOD: one boolean a layer, under the row's key. */
lb_status lb_meta_run_layers(const lb_meta_writer *w, const lb_arch_kv *row, const lb_json *v,
                             lb_err *err);
/* Rope scaling: beside what GGUF holds of yarn; what it does not hold at all. `type`: llama3 and
 * longrope of families without tensors for them; any other is refused by name. */
lb_status lb_meta_run_yarn(const lb_meta_writer *w, lb_err *err);
lb_status lb_meta_run_dynamic(const lb_meta_writer *w, const lb_json *factor, lb_err *err);
lb_status lb_meta_run_rope(const lb_meta_writer *w, lb_str type, lb_err *err);
/* What stands in configs of any family: the activation; groups of experts that go unused. Without
 * w->run an activation that is not the family's is refused where GGUF's readers take silu. */
lb_status lb_meta_run_rest(const lb_meta_writer *w, lb_err *err);

#endif

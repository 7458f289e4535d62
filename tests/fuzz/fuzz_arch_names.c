/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_arch_names.c: the name of a tensor, in every family and world.
 *
 * Checked: a name that is found is found again, as a tensor that holds the same, under its name in
 * every other world. */
#include "arch/arch_internal.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Of the rows that share the name one is the other's, or another form of it. */
static bool holds(const lb_arch_match *m, lb_role role) {
    for (u32 i = 0; i < m->n_rows; i++)
        if (m->row[i].role == role)
            return true;
    return false;
}

/* One form is named whole (stacked experts), the other without its suffix. */
static bool whole_in_one(const lb_arch_match *a, const lb_arch_match *b) {
    return a->suffix != LB_SUFFIX_BIAS && b->suffix != LB_SUFFIX_BIAS && a->row != b->row;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    lb_arena arena = {.max_bytes = 64 * LB_MIB}, *a = &arena;
    lb_str name = {(const char *)data, size};
    const char *family;
    const lb_arch *arch;
    for (u32 i = 0; (arch = lb_arch_at(i, &family)) != NULL; i++)
        for (int w = LB_WORLD_HF; w <= LB_WORLD_GGUF; w++) {
            static const lb_hparams hp = {.n_layers = 40};
            lb_arch_match m, n;
            if (!lb_arch_find(arch, &hp, (lb_world)w, name, &m))
                continue;
            if (lb_arch_is_stacked(m.row, (lb_world)w)) /* one of the stack */
                m.expert = 0;
            for (int to = LB_WORLD_HF; to <= LB_WORLD_GGUF; to++) {
                lb_str t = lb_arch_tensor_name(m.row, (lb_world)to, &m, a);
                if (t.len == 0)
                    continue;
                LB_ASSERT(lb_arch_find(arch, &hp, (lb_world)to, t, &n));
                LB_ASSERT(holds(&n, m.row->role) && n.layer == m.layer);
                LB_ASSERT(n.suffix == m.suffix || whole_in_one(&n, &m));
                LB_ASSERT(lb_str_eq(lb_arch_tensor_name(n.row, (lb_world)to, &n, a), t));
            }
        }
    lb_arena_deinit(&arena);
    return 0;
}

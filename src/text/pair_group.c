/* SPDX-License-Identifier: Apache-2.0 */
/* pair_group.c: see pair_group.h. A pair stands as one text, which is what it gives. */
#include "text/pair_group.h"

void lb_pair_group_add(lb_pair_group *g, const lb_str pair[2]) {
    LB_ASSERT(g->n < LB_PAIR_GROUP);
    for (u32 k = 0; k < 2; k++) {
        g->too_long |= pair[k].len > UINT32_MAX;
        g->len[g->n][k] = (u32)pair[k].len;
        lb_buf_put_str(&g->texts, pair[k]);
    }
    g->n++;
}

void lb_pair_group_deinit(lb_pair_group *g) {
    lb_buf_deinit(&g->texts);
}

lb_status lb_pair_group_find(lb_pair_group *g, const lb_texts_index *id_of, const lb_texts *token,
                             lb_str *s, u32 *id, lb_err *err) {
    const char *at = (const char *)g->texts.ptr;
    LB_TRY(lb_buf_status(&g->texts, err));
    if (g->too_long)
        return lb_fail(err, LB_E_LIMIT, "a merge of more than 4 GiB");
    for (u32 i = 0; i < g->n; i++) {
        const u32 *len = g->len[i];
        s[3 * i] = (lb_str){at, len[0]};
        s[3 * i + 1] = (lb_str){at + len[0], len[1]};
        s[3 * i + 2] = (lb_str){at, (size_t)len[0] + len[1]};
        at += s[3 * i + 2].len;
    }
    lb_texts_index_find_many(id_of, token, 3 * g->n, s, id);
    lb_buf_reset(&g->texts);
    g->n = 0;
    return LB_OK;
}

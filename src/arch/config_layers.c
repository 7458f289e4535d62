/* SPDX-License-Identifier: Apache-2.0 */
/* config_layers.c: GGUF metadata -> what a config.json says layer by layer. */
#include "arch/config_back.h"

/* Whether layer i has a sliding window: a list of flags, or all but every pattern-th. */
static bool is_sliding(const lb_gguf_kv *list, u64 pattern, u64 i) {
    u64 flag = 0;
    if (list)
        return lb_kv_elem_u64(list, i, &flag) && flag != 0;
    return pattern == 0 || i % pattern < pattern - 1;
}

/* The period that stands beside layer_types, or its letters. */
static lb_json *window_rule(lb_back *b, const lb_gguf_kv *list, u64 pattern, u64 period) {
    if (!b->arch->window.letters)
        return lb_json_new_u64(b->perm, period);
    char *letters = lb_arena_new(b->perm, char, period);
    for (u64 i = 0; letters && i < period; i++)
        letters[i] = is_sliding(list, pattern, i) ? 'L' : 'G';
    return letters ? lb_json_new_str(b->perm, (lb_str){letters, (size_t)period}) : NULL;
}

lb_status lb_back_layers(lb_back *b) {
    const lb_arch_window *w = &b->arch->window;
    u64 window = 0, pattern = w->period, n = b->hp.n_layers;
    bool irregular = false;
    const lb_gguf_kv *kv = lb_back_find(b, "attention.sliding_window_pattern"), *list = NULL;
    if (!w->period)
        return LB_OK;
    lb_json *types = lb_json_new_array(b->perm);
    if (kv && kv->type == LB_GGUF_ARRAY) {
        list = kv;
        if (kv->n < n)
            return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is shorter than the layers",
                           LB_FMT(kv->key));
    } else {
        lb_kv_as_u64(kv, &pattern);
    }
    lb_kv_as_u64(lb_back_find(b, "attention.sliding_window"), &window);
    if (window == 0) { /* every layer sees everything */
        pattern = 1;
        list = NULL;
        if (w->letters)
            lb_back_set(b, b->config, "sliding_window", lb_json_new_null(b->perm));
        else
            lb_json_remove(b->config, "sliding_window");
    }
    u64 regular = n + 1; /* the pattern that the list follows, if any */
    b->full = lb_arena_new(b->perm, bool, n);
    b->oom |= !b->full;
    for (u64 i = 0; i < n; i++) {
        bool s = is_sliding(list, pattern, i);
        if (!s && regular > n)
            regular = i + 1;
        if (b->full)
            b->full[i] = !s;
        b->oom |= !lb_json_push(types, lb_json_new_str(b->perm, s ? LB_STR("sliding_attention")
                                                                  : LB_STR("full_attention")));
        if (b->oom)
            return LB_OK;
    }
    for (u64 i = 0; i < n; i++)
        if (is_sliding(list, pattern, i) != ((i + 1) % regular != 0)) {
            if (w->letters)
                regular = n;
            else if (w->key)
                lb_back_notice(
                    b, "the order of sliding and full layers is irregular: only layer_types "
                       "says it");
            irregular = !w->letters;
            break;
        }
    lb_back_set(b, b->config, "layer_types", types);
    if (w->key && w->letters && window == 0)
        lb_back_set(b, b->config, w->key, lb_json_new_null(b->perm));
    else if (w->key && !irregular)
        lb_back_set(b, b->config, w->key,
                    window_rule(b, list, pattern, list || pattern == 0 ? regular : pattern));
    return LB_OK;
}

lb_status lb_back_recurrent(lb_back *b) {
    const lb_gguf_kv *list = lb_back_find(b, "attention.recurrent_layers");
    u64 n = b->hp.n_layers, interval = 4, flag = 0, first = 0;
    bool regular = true;
    if (!lb_arch_has_recurrent(b->arch))
        return LB_OK;
    lb_kv_as_u64(lb_back_find(b, "full_attention_interval"), &interval);
    if (list && (list->type != LB_GGUF_ARRAY || list->n < n))
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s' is shorter than the layers",
                       LB_FMT(list->key));
    if (!list && interval == 0)
        return lb_fail(b->err, LB_E_FORMAT, "GGUF metadata: '%.*s.full_attention_interval' is 0",
                       LB_FMT(b->name));
    lb_json *types = lb_json_new_array(b->perm);
    b->oom |= !types;
    for (u64 i = 0; i < n && !b->oom; i++) {
        bool full = list ? lb_kv_elem_u64(list, i, &flag) && !flag : (i + 1) % interval == 0;
        first = first == 0 && full ? i + 1 : first;
        regular &= full == (first && (i + 1) % first == 0);
        b->oom |= !lb_json_push(types, lb_json_new_str(b->perm, full ? LB_STR("full_attention")
                                                                     : LB_STR("linear_attention")));
    }
    lb_back_set(b, b->config, "layer_types", types);
    if (list && regular)
        interval = first ? first : n + 1;
    else if (list)
        lb_back_notice(
            b, "the order of linear and full layers is irregular: only layer_types says it");
    lb_back_set(b, b->config, "full_attention_interval", lb_json_new_u64(b->perm, interval));
    return LB_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* test_merge_parts.c: modules and layers by names, for families that mergekit lists and for those
 * that it infers. */
#include "test.h"
#include "merge/parts.h"

static lb_arena arena;
static lb_merge_fact facts[2][16];
static lb_merge_parts parts;
static u32 n_facts[2];

static void put(u32 m, const char *name) {
    facts[m][n_facts[m]++] =
        (lb_merge_fact){.name = lb_str_c(name), .layer = LB_NO_LAYER, .same_as = LB_NO_FACT};
}

static void find(const char *type) {
    lb_err err = {0};
    lb_merge_fact *const lists[] = {facts[0], facts[1]};
    CHECK_OK(lb_merge_parts_find(lb_str_c(type), lists, n_facts, 2, &arena, &parts, &err));
}

static void start(void) {
    lb_arena_reset(&arena);
    n_facts[0] = n_facts[1] = 0;
}

static void check_fact(u32 m, u32 i, const char *module, u32 layer, u32 at) {
    const lb_merge_fact *f = &facts[m][i];
    CHECK(f->module < parts.n);
    if (f->module < parts.n)
        CHECK_STR(parts.names[f->module], module);
    CHECK_U64(f->layer, layer);
    CHECK_U64(f->layer_at, at);
}

LB_TEST(one_kind_of_layers) {
    start();
    put(0, "model.embed_tokens.weight");
    put(0, "model.layers.0.mlp.experts.7.up_proj.weight");
    put(0, "model.layers.11.mlp.experts.2.up_proj.weight");
    put(1, "model.layers.4.q.weight");
    put(1, "lm_head.weight");
    find("mixtral");
    CHECK_U64(parts.n, 1);
    check_fact(0, 0, "default", LB_NO_LAYER, 0);
    check_fact(0, 1, "default", 0, 13);
    check_fact(0, 2, "default", 11, 13);
    CHECK(parts.n_layers[0] == 12 && parts.n_layers[1] == 5);
    start();
    put(0, "only.weight");
    find("x");
    CHECK(parts.n == 1 && parts.n_layers[0] == 0);
}

LB_TEST(several_kinds) {
    start();
    put(0, "model.visual.blocks.1.w");
    put(0, "model.language_model.layers.2.w");
    put(0, "model.language_model.norm.w");
    put(1, "model.visual.blocks.0.w");
    find("something_new");
    CHECK_U64(parts.n, 3);
    check_fact(0, 0, "model.visual.blocks", 1, 20);
    check_fact(0, 1, "model.language_model.layers", 2, 28);
    check_fact(0, 2, "default", LB_NO_LAYER, 0);
    check_fact(1, 0, "model.visual.blocks", 0, 20);
    CHECK(parts.n_layers[0] == 2 && parts.n_layers[1] == 3 && parts.n_layers[2] == 0);
    CHECK(parts.n_layers[3] == 1 && parts.n_layers[4] == 0);
    start();
    for (u32 i = 0; i < 16; i++) /* more than there was room for */
        put(0, lb_arena_printf(&arena, "m%u.0.w", i).ptr);
    find("y");
    CHECK_U64(parts.n, 16);
    check_fact(0, 15, "m15", 0, 4);
}

LB_TEST(families_of_several_modules) {
    start();
    put(0, "language_model.model.layers.3.w");
    put(0, "model.language_model.layers.3.w");
    put(0, "lm_head.weight");
    put(0, "model.vision_tower.vision_model.encoder.layers.2.w");
    put(0, "multi_modal_projector.mm_soft_emb_norm.weight");
    find("gemma3");
    CHECK_U64(parts.n, 3);
    check_fact(0, 0, "text_decoder", 3, 28);
    check_fact(0, 1, "text_decoder", 3, 28);
    check_fact(0, 2, "text_decoder", LB_NO_LAYER, 0);
    check_fact(0, 3, "vision_tower", 2, 47);
    check_fact(0, 4, "multi_modal_projector", LB_NO_LAYER, 0);
    CHECK(parts.n_layers[0] == 4 && parts.n_layers[1] == 0 && parts.n_layers[2] == 3);
    start();
    put(0, "visual.merger.mlp.2.weight");
    put(0, "visual.blocks.1.attn.qkv.weight");
    put(0, "model.visual.deepstack_merger_list.1.norm.weight");
    put(0, "model.layers.0.w");
    find("qwen2_5_vl");
    check_fact(0, 0, "multi_modal_projector", LB_NO_LAYER, 0);
    check_fact(0, 1, "vision_tower", 1, 14);
    check_fact(0, 2, "multi_modal_projector", LB_NO_LAYER, 0);
    check_fact(0, 3, "text_decoder", 0, 13);
    start();
    put(0, "encoder.block.1.layer.0.w");
    put(0, "shared.weight");
    put(0, "decoder.final_layer_norm.weight");
    find("t5");
    check_fact(0, 0, "encoder", 1, 14);
    check_fact(0, 1, "shared", LB_NO_LAYER, 0);
    check_fact(0, 2, "decoder", LB_NO_LAYER, 0);
}

/* Numbers that are none: at an end, too large, without digits. */
LB_TEST(no_layers) {
    static const char *const names[] = {
        "a.1", ".1.x", "a..x", "a.99999999999.x", "a.4294967295.x", "a.1b.x", "1.x", ""};
    for (u32 i = 0; i < LB_LEN(names); i++) {
        start();
        put(0, names[i]);
        find("z");
        CHECK_U64(facts[0][0].layer, i == 1 ? 1 : LB_NO_LAYER);
    }
}

/* What a table of the architecture has said of a layer stays. */
LB_TEST(layers_known_before) {
    for (u32 i = 0; i < 2; i++) {
        start();
        put(0, "enc.0.blocks.3.w");
        put(0, "dec.0.blocks.3.w");
        facts[0][0].layer = 3;
        find(i ? "qwen2_vl" : "z");
        check_fact(0, 0, i ? "text_decoder" : "enc", 3, 0);
        check_fact(0, 1, i ? "text_decoder" : "dec", 0, 4);
    }
}

LB_TEST(failing_memory) {
    start();
    for (u32 i = 0; i < 10; i++)
        put(0, i % 2 ? "a.0.w" : "b.0.w");
    lb_merge_fact *const lists[] = {facts[0], facts[1]};
    u32 failed = 0;
    for (u64 n = 1; n < 8; n++) {
        lb_arena a = {0};
        lb_mem_fail_at(n);
        lb_status st = lb_merge_parts_find(LB_STR("q"), lists, n_facts, 2, &a, &parts, NULL);
        lb_mem_fail_at(0);
        CHECK(st == LB_OK || st == LB_E_NOMEM);
        failed += st == LB_E_NOMEM;
        lb_arena_deinit(&a);
    }
    CHECK(failed > 0);
}

LB_TEST_MAIN("fast")

/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders of the K-quants and IQ-quants against ggml's and gguf-py's values (tests/golden/kern).
 */
#include "golden.h"
#include "test.h"

LB_TEST(q2_k) {
    golden_check_decode(LB_Q2_K);
}
LB_TEST(q3_k) {
    golden_check_decode(LB_Q3_K);
}
LB_TEST(q4_k) {
    golden_check_decode(LB_Q4_K);
}
LB_TEST(q5_k) {
    golden_check_decode(LB_Q5_K);
}
LB_TEST(q6_k) {
    golden_check_decode(LB_Q6_K);
}
LB_TEST(q8_k) {
    golden_check_decode(LB_Q8_K);
}
LB_TEST(iq2_xxs) {
    golden_check_decode(LB_IQ2_XXS);
}
LB_TEST(iq2_xs) {
    golden_check_decode(LB_IQ2_XS);
}
LB_TEST(iq2_s) {
    golden_check_decode(LB_IQ2_S);
}
LB_TEST(iq3_xxs) {
    golden_check_decode(LB_IQ3_XXS);
}
LB_TEST(iq3_s) {
    golden_check_decode(LB_IQ3_S);
}
LB_TEST(iq1_s) {
    golden_check_decode(LB_IQ1_S);
}
LB_TEST(iq1_m) {
    golden_check_decode(LB_IQ1_M);
}
LB_TEST(iq4_nl) {
    golden_check_decode(LB_IQ4_NL);
}
LB_TEST(iq4_xs) {
    golden_check_decode(LB_IQ4_XS);
}
LB_TEST_MAIN("fast")

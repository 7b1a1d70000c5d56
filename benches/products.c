// How many vector instructions a second one core makes of 32-bit products (vfmadd231ps, 16 of them) and of 16-bit products (vdpbf16ps of
// AVX-512 BF16, 32 of them), each in twelve independent sums of normal numbers.
//
//   cc -O2 -funroll-loops -mavx512f -mavx512bf16 benches/products.c -o /tmp/products && /tmp/products
#define _POSIX_C_SOURCE 199309L
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define SUMS 12
#define ROUNDS 100000000L

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Runs a product for all sums; the empty statement keeps the compiler from drawing rounds together.
#define MEASURE(name, product)                                                         \
  do {                                                                                 \
    double begin = seconds();                                                          \
    for (long round = 0; round < ROUNDS; round++) {                                    \
      for (int i = 0; i < SUMS; i++) sums[i] = (product);                              \
      __asm__ volatile("" ::"v"(sums[0]));                                             \
    }                                                                                  \
    printf("%s: %.2f thousand million a second\n", name, ROUNDS * SUMS / (seconds() - begin) * 1e-9); \
  } while (0)

int main(void) {
  __m512 sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = _mm512_setzero_ps();
  __m512 one = _mm512_set1_ps(1.0f), small = _mm512_set1_ps(1e-9f);
  // 1 and 4.7e-10 as bfloat16.
  __m512bh one16 = (__m512bh)_mm512_set1_epi16(0x3f80), small16 = (__m512bh)_mm512_set1_epi16(0x3000);
  for (int repeat = 0; repeat < 2; repeat++) {
    MEASURE("vfmadd231ps", _mm512_fmadd_ps(one, small, sums[i]));
    MEASURE("vdpbf16ps", _mm512_dpbf16_ps(sums[i], one16, small16));
  }
  float total = 0;
  for (int i = 0; i < SUMS; i++) total += _mm512_reduce_add_ps(sums[i]);
  return total > 0 ? 0 : 1;
}

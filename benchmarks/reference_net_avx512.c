// What a processor can do on the reference net: layers of 512 LIF neurons, hand-written for AVX-512.
// Event-driven int8 weights, sums of int16 in registers, each layer through all steps before the next.
// Built and compared, spike for spike, by bench_emulator.py.
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#define N 512
#define MOST 4096 // steps

// a[i] = sum of rows idx[0..k) of W (N x N, a row of one source's weights)
static inline void gather(const int8_t *W, const int *idx, int k, int32_t *a) {
  for (int c = 0; c < N; c += 256) {
    __m512i wide[16];
    for (int q = 0; q < 16; q++) wide[q] = _mm512_setzero_si512();
    for (int j0 = 0; j0 < k; j0 += 256) { // 256 * 127 fits an int16
      int end = j0 + 256 < k ? j0 + 256 : k;
      __m512i b[8];
      for (int q = 0; q < 8; q++) b[q] = _mm512_setzero_si512();
      for (int j = j0; j < end; j++) {
        const int8_t *w = W + (long)idx[j] * N + c;
        for (int q = 0; q < 8; q++)
          b[q] = _mm512_add_epi16(
              b[q], _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(w + 32 * q))));
      }
      for (int q = 0; q < 8; q++) {
        __m256i low = _mm512_castsi512_si256(b[q]), high = _mm512_extracti64x4_epi64(b[q], 1);
        wide[2 * q] = _mm512_add_epi32(wide[2 * q], _mm512_cvtepi16_epi32(low));
        wide[2 * q + 1] = _mm512_add_epi32(wide[2 * q + 1], _mm512_cvtepi16_epi32(high));
      }
    }
    for (int q = 0; q < 16; q++) _mm512_storeu_si512(a + c + 16 * q, wide[q]);
  }
}

// v = trunc(v / 2) + 64 a; spike where v > h; returns the number of spikes, their places in idx
static inline int update(int32_t *v, const int32_t *a, int32_t h, int *idx) {
  int k = 0;
  __m512i H = _mm512_set1_epi32(h), one = _mm512_set1_epi32(16);
  __m512i I = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int i = 0; i < N; i += 16) {
    __m512i x = _mm512_loadu_si512(v + i);
    x = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_srli_epi32(x, 31)), 1);
    x = _mm512_add_epi32(x, _mm512_slli_epi32(_mm512_loadu_si512(a + i), 6));
    __mmask16 m = _mm512_cmpgt_epi32_mask(x, H);
    _mm512_storeu_si512(idx + k, _mm512_maskz_compress_epi32(m, I));
    k += __builtin_popcount(m);
    _mm512_storeu_si512(v + i, _mm512_maskz_mov_epi32((__mmask16)~m, x));
    I = _mm512_add_epi32(I, one);
  }
  return k;
}

// X, out: uint8 (T, N); W: int8 (L, N sources, N); th: int32 (L,), thresholds times 64
void run(const uint8_t *X, const int8_t *W, const int32_t *th, uint8_t *out, int T, int L) {
  static int spikes[MOST][N + 16];
  static int count[MOST];
  int32_t v[N], a[N];
  for (int t = 0; t < T; t++) {
    int k = 0;
    for (int i = 0; i < N; i++) {
      spikes[t][k] = i;
      k += X[t * N + i];
    }
    count[t] = k;
  }
  for (int l = 0; l < L; l++) {
    memset(v, 0, sizeof v);
    for (int t = 0; t < T; t++) {
      gather(W + (long)l * N * N, spikes[t], count[t], a);
      count[t] = update(v, a, th[l], spikes[t]);
    }
  }
  memset(out, 0, (long)T * N);
  for (int t = 0; t < T; t++)
    for (int j = 0; j < count[t]; j++) out[t * N + spikes[t][j]] = 1;
}

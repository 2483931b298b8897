#include "crc32.h"

/* Slicing by 16: TABLES[k][b] is what byte b does to the CRC when k bytes follow it, so that 16 bytes need no loop over
 * bits and no waiting for each other. What a byte does is the sum (exclusive or) of what each of its bits does: rows of
 * the table give these, and the compiler makes the sums. tests/core/test_program.py holds all of them to zlib's. */
#define ONE(b, p, q, r, s, t, u, v, w)                                                                                 \
    ((b) & 1 ? p : 0) ^ ((b) & 2 ? q : 0) ^ ((b) & 4 ? r : 0) ^ ((b) & 8 ? s : 0) ^ ((b) & 16 ? t : 0) ^               \
        ((b) & 32 ? u : 0) ^ ((b) & 64 ? v : 0) ^ ((b) & 128 ? w : 0)
#define FOUR(b, p, q, r, s, t, u, v, w)                                                                                \
    ONE(b, p, q, r, s, t, u, v, w),                                                                                    \
    ONE((b) + 1, p, q, r, s, t, u, v, w),                                                                              \
    ONE((b) + 2, p, q, r, s, t, u, v, w),                                                                              \
    ONE((b) + 3, p, q, r, s, t, u, v, w)
#define SIXTEEN(b, p, q, r, s, t, u, v, w)                                                                             \
    FOUR(b, p, q, r, s, t, u, v, w),                                                                                   \
    FOUR((b) + 4, p, q, r, s, t, u, v, w),                                                                             \
    FOUR((b) + 8, p, q, r, s, t, u, v, w),                                                                             \
    FOUR((b) + 12, p, q, r, s, t, u, v, w)
#define SIXTY_FOUR(b, p, q, r, s, t, u, v, w)                                                                          \
    SIXTEEN(b, p, q, r, s, t, u, v, w),                                                                                \
    SIXTEEN((b) + 16, p, q, r, s, t, u, v, w),                                                                         \
    SIXTEEN((b) + 32, p, q, r, s, t, u, v, w),                                                                         \
    SIXTEEN((b) + 48, p, q, r, s, t, u, v, w)
#define TABLE(p, q, r, s, t, u, v, w)                                                                                  \
    { SIXTY_FOUR(0, p, q, r, s, t, u, v, w),                                                                           \
      SIXTY_FOUR(64, p, q, r, s, t, u, v, w),                                                                          \
      SIXTY_FOUR(128, p, q, r, s, t, u, v, w),                                                                         \
      SIXTY_FOUR(192, p, q, r, s, t, u, v, w) }

static const uint32_t TABLES[16][256] = {
    TABLE(0x77073096u, 0xee0e612cu, 0x076dc419u, 0x0edb8832u, 0x1db71064u, 0x3b6e20c8u, 0x76dc4190u, 0xedb88320u),
    TABLE(0x191b3141u, 0x32366282u, 0x646cc504u, 0xc8d98a08u, 0x4ac21251u, 0x958424a2u, 0xf0794f05u, 0x3b83984bu),
    TABLE(0x01c26a37u, 0x0384d46eu, 0x0709a8dcu, 0x0e1351b8u, 0x1c26a370u, 0x384d46e0u, 0x709a8dc0u, 0xe1351b80u),
    TABLE(0xb8bc6765u, 0xaa09c88bu, 0x8f629757u, 0xc5b428efu, 0x5019579fu, 0xa032af3eu, 0x9b14583du, 0xed59b63bu),
    TABLE(0x3d6029b0u, 0x7ac05360u, 0xf580a6c0u, 0x30704bc1u, 0x60e09782u, 0xc1c12f04u, 0x58f35849u, 0xb1e6b092u),
    TABLE(0xcb5cd3a5u, 0x4dc8a10bu, 0x9b914216u, 0xec53826du, 0x03d6029bu, 0x07ac0536u, 0x0f580a6cu, 0x1eb014d8u),
    TABLE(0xa6770bb4u, 0x979f1129u, 0xf44f2413u, 0x33ef4e67u, 0x67de9cceu, 0xcfbd399cu, 0x440b7579u, 0x8816eaf2u),
    TABLE(0xccaa009eu, 0x4225077du, 0x844a0efau, 0xd3e51bb5u, 0x7cbb312bu, 0xf9766256u, 0x299dc2edu, 0x533b85dau),
    TABLE(0x177b1443u, 0x2ef62886u, 0x5dec510cu, 0xbbd8a218u, 0xacc04271u, 0x82f182a3u, 0xde920307u, 0x6655004fu),
    TABLE(0xefc26b3eu, 0x04f5d03du, 0x09eba07au, 0x13d740f4u, 0x27ae81e8u, 0x4f5d03d0u, 0x9eba07a0u, 0xe6050901u),
    TABLE(0xc18edfc0u, 0x586cb9c1u, 0xb0d97382u, 0xbac3e145u, 0xaef6c4cbu, 0x869c8fd7u, 0xd64819efu, 0x77e1359fu),
    TABLE(0x9ba54c6fu, 0xec3b9e9fu, 0x03063b7fu, 0x060c76feu, 0x0c18edfcu, 0x1831dbf8u, 0x3063b7f0u, 0x60c76fe0u),
    TABLE(0xdd96d985u, 0x605cb54bu, 0xc0b96a96u, 0x5a03d36du, 0xb407a6dau, 0xb37e4bf5u, 0xbd8d91abu, 0xa06a2517u),
    TABLE(0x9d0fe176u, 0xe16ec4adu, 0x19ac8f1bu, 0x33591e36u, 0x66b23c6cu, 0xcd6478d8u, 0x41b9f7f1u, 0x8373efe2u),
    TABLE(0xb9fbdbe8u, 0xa886b191u, 0x8a7c6563u, 0xcf89cc87u, 0x44629f4fu, 0x88c53e9eu, 0xcafb7b7du, 0x4e87f0bbu),
    TABLE(0xae689191u, 0x87a02563u, 0xd4314c87u, 0x73139f4fu, 0xe6273e9eu, 0x173f7b7du, 0x2e7ef6fau, 0x5cfdedf4u),
};

uint32_t ob_crc32(const uint8_t *data, size_t bytes) {
    uint32_t crc = 0xffffffffu;
    for (; bytes >= 16; bytes -= 16, data += 16)
        crc = TABLES[15][data[0] ^ (crc & 255)] ^ TABLES[14][data[1] ^ (crc >> 8 & 255)] ^
              TABLES[13][data[2] ^ (crc >> 16 & 255)] ^ TABLES[12][data[3] ^ (crc >> 24)] ^
              TABLES[11][data[4]] ^ TABLES[10][data[5]] ^ TABLES[9][data[6]] ^ TABLES[8][data[7]] ^
              TABLES[7][data[8]] ^ TABLES[6][data[9]] ^ TABLES[5][data[10]] ^ TABLES[4][data[11]] ^
              TABLES[3][data[12]] ^ TABLES[2][data[13]] ^ TABLES[1][data[14]] ^ TABLES[0][data[15]];
    for (; bytes > 0; bytes--)
        crc = crc >> 8 ^ TABLES[0][*data++ ^ (crc & 255)];
    return ~crc;
}

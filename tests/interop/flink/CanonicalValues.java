import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.temporal.ChronoField;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.utils.LogicalTypeChecks;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;

/** Values of Flink's external classes to and from the JSON forms that {@code canonical.py} describes. */
final class CanonicalValues {

    private static final Map<Integer, DateTimeFormatter> TIMESTAMPS =
            Map.of(3, timestamps(3), 6, timestamps(6), 9, timestamps(9));
    private static final DateTimeFormatter TIMES = DateTimeFormatter.ofPattern("HH:mm:ss.nnnnnnnnn");

    private CanonicalValues() {}

    static List<Object> encode(Row row, List<LogicalType> types) {
        List<Object> values = new ArrayList<>(types.size());
        for (int i = 0; i < types.size(); i++) {
            values.add(encode(row.getField(i), types.get(i)));
        }
        return values;
    }

    static Object encode(Object value, LogicalType type) {
        if (value == null) {
            return null;
        }
        switch (type.getTypeRoot()) {
            case BOOLEAN:
            case TINYINT:
            case SMALLINT:
            case INTEGER:
            case BIGINT:
                return value;
            case FLOAT:
            case DOUBLE:
                return number(((Number) value).doubleValue());
            case DECIMAL:
                int scale = ((DecimalType) type).getScale();
                return ((BigDecimal) value).setScale(scale, RoundingMode.UNNECESSARY).toPlainString();
            case TIME_WITHOUT_TIME_ZONE:
                return TIMES.format((LocalTime) value);
            case TIMESTAMP_WITHOUT_TIME_ZONE:
                return timestamp((LocalDateTime) value, type);
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                return timestamp(LocalDateTime.ofInstant((Instant) value, ZoneOffset.UTC), type) + "Z";
            case BINARY:
            case VARBINARY:
                return HexFormat.of().formatHex((byte[]) value);
            case ARRAY:
                return elements(value, type.getChildren().get(0));
            case MAP:
            case MULTISET:
                return pairs((Map<?, ?>) value, type);
            case ROW:
                return encode((Row) value, type.getChildren());
            default:
                return value.toString();
        }
    }

    /** JSON has no NaN nor infinities, and Python's == cannot tell -0.0 from 0.0. */
    private static Object number(double value) {
        boolean plain = Double.isFinite(value) && Double.compare(value, -0.0) != 0;
        return plain ? (Object) value : Double.toString(value);
    }

    private static String timestamp(LocalDateTime value, LogicalType type) {
        int precision = LogicalTypeChecks.getPrecision(type);
        return TIMESTAMPS.get(precision <= 3 ? 3 : precision <= 6 ? 6 : 9).format(value);
    }

    private static DateTimeFormatter timestamps(int digits) {
        return new DateTimeFormatterBuilder()
                .appendPattern("uuuu-MM-dd'T'HH:mm:ss")
                .appendFraction(ChronoField.NANO_OF_SECOND, digits, digits, true)
                .toFormatter();
    }

    private static List<Object> elements(Object array, LogicalType type) {
        List<Object> elements = new ArrayList<>();
        for (int i = 0; i < Array.getLength(array); i++) {
            elements.add(encode(Array.get(array, i), type));
        }
        return elements;
    }

    private static List<List<Object>> pairs(Map<?, ?> map, LogicalType type) {
        LogicalType keyType = type.getChildren().get(0);
        boolean counts = type.is(LogicalTypeRoot.MULTISET);
        List<List<Object>> pairs = new ArrayList<>(map.size());
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            List<Object> pair = new ArrayList<>(2);
            pair.add(encode(entry.getKey(), keyType));
            pair.add(counts ? entry.getValue() : encode(entry.getValue(), type.getChildren().get(1)));
            pairs.add(pair);
        }
        pairs.sort(Comparator.comparing(pair -> pair.get(0), Comparator.nullsFirst(CanonicalValues::compareKeys)));
        return pairs;
    }

    @SuppressWarnings("unchecked")
    private static int compareKeys(Object left, Object right) {
        boolean natural = left instanceof Comparable && left.getClass() == right.getClass();
        return natural ? ((Comparable<Object>) left).compareTo(right) : left.toString().compareTo(right.toString());
    }

    static RowKind kind(String shortName) {
        for (RowKind kind : RowKind.values()) {
            if (kind.shortString().equals(shortName)) {
                return kind;
            }
        }
        throw new IllegalArgumentException("row kind '" + shortName + "' is none of +I, -U, +U, -D");
    }

    static Row decode(RowKind kind, JsonNode values, List<DataType> types) {
        if (values.size() != types.size()) {
            throw new IllegalArgumentException(
                    "row " + values + " has " + values.size() + " values; expected " + types.size());
        }
        Row row = new Row(kind, types.size());
        for (int i = 0; i < types.size(); i++) {
            row.setField(i, decode(values.get(i), types.get(i)));
        }
        return row;
    }

    private static Object decode(JsonNode value, DataType type) {
        if (value.isNull()) {
            return null;
        }
        List<DataType> children = type.getChildren();
        switch (type.getLogicalType().getTypeRoot()) {
            case BOOLEAN:
                return value.booleanValue();
            case TINYINT:
                return (byte) value.intValue();
            case SMALLINT:
                return (short) value.intValue();
            case INTEGER:
                return value.intValue();
            case BIGINT:
                return value.longValue();
            case FLOAT:
                return (float) Double.parseDouble(value.asText());
            case DOUBLE:
                return Double.parseDouble(value.asText());
            case DECIMAL:
                return new BigDecimal(value.asText());
            case DATE:
                return LocalDate.parse(value.asText());
            case TIME_WITHOUT_TIME_ZONE:
                return LocalTime.parse(value.asText());
            case TIMESTAMP_WITHOUT_TIME_ZONE:
                return LocalDateTime.parse(value.asText());
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
                return Instant.parse(value.asText());
            case BINARY:
            case VARBINARY:
                return HexFormat.of().parseHex(value.asText());
            case ARRAY:
                return array(value, children.get(0));
            case MAP:
                return map(value, children.get(0), children.get(1));
            case MULTISET:
                return map(value, children.get(0), DataTypes.INT());
            case ROW:
                return decode(RowKind.INSERT, value, children);
            default:
                return value.asText();
        }
    }

    private static Object array(JsonNode values, DataType element) {
        Object array = Array.newInstance(element.getConversionClass(), values.size());
        for (int i = 0; i < values.size(); i++) {
            Array.set(array, i, decode(values.get(i), element));
        }
        return array;
    }

    private static Map<Object, Object> map(JsonNode pairs, DataType key, DataType value) {
        Map<Object, Object> map = new LinkedHashMap<>();
        for (JsonNode pair : pairs) {
            map.put(decode(pair.get(0), key), decode(pair.get(1), value));
        }
        return map;
    }
}

package protocol

import (
	"reflect"
	"testing"
)

func TestStatsAddCoversEveryField(t *testing.T) {
	t.Parallel()
	var one, sum, retired Stats
	gauges := map[string]bool{"Peers": true, "Wants": true, "Inflight": true, "InflightBytes": true}
	v := reflect.ValueOf(&one).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.CanInt() {
			f.SetInt(int64(i + 1))
		} else {
			f.SetUint(uint64(i + 1))
		}
	}
	sum.Add(one)
	if sum != one {
		t.Errorf("zero and %+v is %+v", one, sum)
	}
	retired.Retire(one)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if got := reflect.ValueOf(retired).Field(i).IsZero(); got != gauges[name] {
			t.Errorf("Retire: field %s is zero: %v, want %v", name, got, gauges[name])
		}
	}
}

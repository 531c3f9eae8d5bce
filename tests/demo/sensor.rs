//! A sensor whose three fields wander like weather.

use super::support::World;

#[derive(Default)]
pub struct Sensor {
    pub produced: u64,
    pending: Vec<[String; 3]>,
}

impl Sensor {
    /// Measures until there are so many.
    pub fn measure_upto(&mut self, wanted: u64) {
        while self.produced < wanted {
            let phase = self.produced as f64 / 500.0;
            self.pending.push([
                format!("{:.1}", 20.0 + 5.0 * phase.sin()),
                format!("{:.0}", 55.0 + 20.0 * (phase / 3.0).cos()),
                format!("{:.1}", 1013.0 + 8.0 * (phase / 7.0).sin()),
            ]);
            self.produced += 1;
        }
    }

    /// Writes to Redis what it has measured.
    pub fn flush(&mut self, world: &World) {
        if self.pending.is_empty() {
            return;
        }
        let mut pipe = redis::pipe();
        for [temperature, humidity, pressure] in self.pending.drain(..) {
            pipe.cmd("XADD").arg("measurement:values").arg("*");
            pipe.arg(&["temperature_celsius", &temperature]);
            pipe.arg(&["humidity_percent", &humidity]);
            pipe.arg(&["pressure_hpa", &pressure]).ignore();
        }
        pipe.query::<()>(&mut world.redis.connection())
            .expect("XADD");
    }
}
